// `deltawatch status`: the fleet, as a gateway sees it.
// Owns: the table and its JSON twin. Refuses: judging servers; that is doctor.

import type { Command } from 'commander'
import type { ClusterInfo } from '../../deltawatch.ts'
import { Exit, type ExitCode } from '../failure.ts'
import { addGatewayOptions, type GatewayOptions, openGateway, reach } from '../gateway.ts'
import { ageText } from '../printable.ts'
import { table } from '../table.ts'
import { type Colour, note, painter, type Terminal } from '../terminal.ts'

type StatusOptions = GatewayOptions & { readonly json?: boolean; readonly strict?: boolean }

const EXAMPLES = `
Examples:
  deltawatch status
  deltawatch status --json | jq '.[] | select(.state != "live")'
  deltawatch status --strict && deploy
`
const LIVE: ReadonlySet<string> = new Set(['live', 'idle-proved'])
const COLOURS: Readonly<Record<string, Colour>> = { live: 'green', 'idle-proved': 'green', unreachable: 'red' }

export function statusCommand(
  run: (action: (io: Terminal) => Promise<ExitCode>) => Promise<void>,
  program: Command,
): void {
  addGatewayOptions(program.command('status'))
    .description('Show every cluster you may see: its state, how far it is proved, and how old that proof is.')
    .option('--json', 'a JSON array')
    .option('--strict', 'exit with 1 unless every cluster is live or idle-proved')
    .addHelpText('after', EXAMPLES)
    .action((options: StatusOptions) => run((io) => status(options, io)))
}

export async function status(options: StatusOptions, io: Terminal): Promise<ExitCode> {
  await using dw = openGateway(options, io)
  await reach(dw, options, io)
  const clusters = [...dw.clusters].sort(([a], [b]) => (a < b ? -1 : 1))
  if (options.json === true) {
    await io.out.write(`${JSON.stringify(clusters.map(([cluster, info]) => ({ cluster, ...info })))}\n`)
  } else if (clusters.length === 0) {
    await note(io, 'the gateway follows no cluster that this identity may see')
  } else await io.out.write(fleet(clusters, io))
  const troubled = clusters.filter(([, { state }]) => !LIVE.has(state))
  return options.strict === true && (troubled.length > 0 || clusters.length === 0) ? Exit.Found : Exit.Ok
}

function fleet(clusters: readonly (readonly [string, ClusterInfo])[], io: Terminal): string {
  const paint = painter(io.colour)
  return table(
    [
      { title: 'CLUSTER' },
      { title: 'REGION' },
      { title: 'STATE' },
      { title: 'REVISION', align: 'right' },
      { title: 'PROVED', align: 'right' },
      { title: 'EPOCH' },
    ],
    clusters.map(([name, { region, state, revision, ageMs, epoch }]) => [
      name,
      region ?? '-',
      paint(COLOURS[state] ?? 'yellow', state),
      revision ?? '-',
      ageMs === undefined ? '-' : `${ageText(ageMs)} ago`,
      epoch ?? '-',
    ]),
  )
}
