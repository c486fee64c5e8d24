// `deltawatch get`: the state of keys, now.
// Owns: its options and output: a table on a terminal, JSON lines otherwise, or one raw value.
// Refuses: /v1/state's pages; a staged snapshot gives each cluster at one revision just as well, over one connection.

import { type Command, Option } from 'commander'
import type { Entry } from '../../core/changes.ts'
import type { LiveState } from '../../live-state.ts'
import { valueBytes } from '../../values.ts'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import { addGatewayOptions, type GatewayOptions, openGateway, reach } from '../gateway.ts'
import { keyText, preview } from '../printable.ts'
import { addSelection, requestOf, type SelectionOptions } from '../selection.ts'
import { table } from '../table.ts'
import { note, type Terminal } from '../terminal.ts'

type GetOptions = GatewayOptions & SelectionOptions & { readonly json?: boolean; readonly raw?: boolean }
type Found = Entry & { readonly cluster: string }

const EXAMPLES = `
Examples:
  deltawatch get /config/app/limits
  deltawatch get --prefix /microservices/ --cluster sz-edge-1
  deltawatch get /config/app/limits --cluster sz-edge-1 --raw > limits.json
`

export function getCommand(
  run: (action: (io: Terminal) => Promise<ExitCode>) => Promise<void>,
  program: Command,
): void {
  const command = program
    .command('get')
    .argument('[key]', 'this key alone; without it, --prefix')
    .description('Show the state of keys in every cluster, as a subscriber may see it.')
  addSelection(addGatewayOptions(command))
    .option('--json', 'JSON lines on a terminal too')
    .addOption(new Option('--raw', "write the value's bytes and nothing else; exactly one entry").conflicts('json'))
    .addHelpText('after', EXAMPLES)
    .action((key: string | undefined, options: GetOptions) => run((io) => get(key, options, io)))
}

export async function get(key: string | undefined, options: GetOptions, io: Terminal): Promise<ExitCode> {
  if (key !== undefined && (options.prefix !== undefined || options.key !== undefined)) {
    throw new CliError(Exit.Usage, 'a key, --key and --prefix exclude each other', 'give one of them')
  }
  await using dw = openGateway(options, io)
  await reach(dw, options, io)
  const values = options.raw === true ? 'base64' : options.values
  const request = requestOf({ ...options, values, ...(key === undefined ? {} : { key }) })
  using live = dw.state({ ...request, signal: io.stop })
  const complete = await ready(live, options.timeout)
  const error = await Promise.race([live.closed, Promise.resolve(undefined)])
  if (error !== undefined) throw error
  if (io.stop.aborted) return Exit.Interrupted
  const found = [...live.entries()]
  if (options.raw === true) return raw(found, io)
  const lines = options.json === true || !io.out.isTTY
  await io.out.write(lines ? found.map((entry) => `${JSON.stringify(entry)}\n`).join('') : asTable(found, io))
  const missing = live.clusters.filter((name) => live.freshness(name).revision === undefined)
  for (const name of missing) await note(io, `${name} is ${live.freshness(name).state}: nothing is known of it now`)
  if (!complete || missing.length > 0) return Exit.Unreachable
  if (found.length > 0) return Exit.Ok
  await note(io, 'no such key, or policy does not let this identity see it')
  return Exit.Found
}

async function ready(live: LiveState, seconds: number): Promise<boolean> {
  const { promise, resolve } = Promise.withResolvers<boolean>()
  const timer = setTimeout(() => resolve(false), seconds * 1_000)
  try {
    return await Promise.race([live.ready.then(() => true), promise])
  } finally {
    clearTimeout(timer)
  }
}

async function raw(found: readonly Found[], io: Terminal): Promise<ExitCode> {
  const [only, ...others] = found
  if (only === undefined) {
    await note(io, 'no such key, or policy does not let this identity see it')
    return Exit.Found
  }
  if (others.length > 0) {
    const clusters = [...new Set(found.map(({ cluster }) => cluster))].join(', ')
    throw new CliError(
      Exit.Usage,
      `--raw needs exactly one entry, and ${found.length} match (in ${clusters})`,
      'add --cluster, or give one key',
    )
  }
  const bytes = valueBytes(only)
  if (bytes === undefined) throw new CliError(Exit.Found, `the value is not to be had: ${preview(only)}`)
  await io.out.write(bytes)
  return Exit.Ok
}

const COLUMNS = [
  { title: 'CLUSTER' },
  { title: 'REVISION', align: 'right' },
  { title: 'KEY' },
  { title: 'VALUE' },
] as const

function asTable(found: readonly Found[], io: Terminal): string {
  if (found.length === 0) return ''
  const cells = found.map((entry) => [entry.cluster, entry.revision, keyText(entry), preview(entry)])
  return table(COLUMNS, cells, io.out.columns)
}
