// `deltawatch tail`: changes as they happen.
// Owns: its options, one row per key on a terminal, one JSON line per change in a pipe, and the cursor at the end.
// Refuses: reconnecting and resuming; the client does that.

import { type Command, InvalidArgumentError } from 'commander'
import type { Change, Entry, KeyEvent } from '../../core/changes.ts'
import type { DeltaWatch } from '../../deltawatch.ts'
import type { Watch } from '../../watch.ts'
import { CliError, Exit, type ExitCode } from '../failure.ts'
import { addGatewayOptions, type GatewayOptions, narrate, openGateway, reach } from '../gateway.ts'
import { ageText, fit, keyText, preview, printable } from '../printable.ts'
import { addSelection, requestOf, type SelectionOptions } from '../selection.ts'
import { type Colour, note, type Paint, painter, type Terminal } from '../terminal.ts'

type TailOptions = GatewayOptions &
  SelectionOptions & {
    readonly from: string
    readonly limit?: number
    readonly showBookmarks?: boolean
    readonly json?: boolean
    readonly mode?: 'log' | 'state'
  }

const EXAMPLES = `
Examples:
  deltawatch tail --prefix /microservices/ --from snapshot
  deltawatch tail --cluster sz-edge-1 --prefix /config/ | jq .
  deltawatch tail --prefix /orders/ --from dw1.…        go on where an earlier run stopped
`

export function tailCommand(
  run: (action: (io: Terminal) => Promise<ExitCode>) => Promise<void>,
  program: Command,
): void {
  const command = program
    .command('tail')
    .description('Show changes as they happen: a table on a terminal, JSON lines otherwise.')
  addSelection(addGatewayOptions(command))
    .option('-f, --from <start>', '"snapshot": the state first; "now": changes only; or a cursor', 'now')
    .option('-n, --limit <n>', 'end after n changes (a snapshot or a revision each)', positive)
    .option('--show-bookmarks', 'also show the proofs that everything up to a revision was delivered')
    .option('--json', 'JSON lines on a terminal too')
    .option('--mode <mode>', '"log": every revision; "state": a slow reader gets the newest state instead', mode)
    .addHelpText('after', EXAMPLES)
    .action((options: TailOptions) => run((io) => tail(options, io)))
}

const positive = (text: string): number => {
  const n = Number(text)
  if (!Number.isInteger(n) || n < 1) throw new InvalidArgumentError('write a whole number from 1 on')
  return n
}
const mode = (text: string): 'log' | 'state' => {
  if (text !== 'log' && text !== 'state') throw new InvalidArgumentError('write log or state')
  return text
}

export async function tail(options: TailOptions, io: Terminal): Promise<ExitCode> {
  const { from } = options
  if (from !== 'snapshot' && from !== 'now' && !from.startsWith('dw1.')) {
    throw new CliError(Exit.Usage, `--from ${printable(from)}: write snapshot, now, or a cursor (dw1.…)`)
  }
  await using dw = openGateway(options, io)
  await reach(dw, options, io)
  narrate(dw, io)
  const widest = Math.max(8, ...[...dw.clusters.keys()].map((name) => name.length))
  const paint = painter(io.colour)
  const show = options.json === true || !io.out.isTTY ? jsonLine : rows(io, paint, widest)
  const watch = dw.watch({
    ...requestOf(options),
    start: from,
    signal: io.stop,
    ...(options.mode === undefined ? {} : { mode: options.mode }),
  })
  let left = options.limit ?? Number.POSITIVE_INFINITY
  for await (const change of watch) {
    if (change.kind === 'bookmark' && options.showBookmarks !== true) continue
    await io.out.write(show(change, watch))
    if (change.kind === 'cluster' && change.state === 'denied') await sayDenied(change.cluster, dw, io)
    if (change.kind === 'events' || change.kind === 'snapshot' || change.kind === 'state') left -= 1
    if (left <= 0) break
  }
  await sayWhereToResume(watch, io)
  return io.stop.aborted ? Exit.Interrupted : Exit.Ok
}

async function sayDenied(cluster: string, dw: DeltaWatch, io: Terminal): Promise<void> {
  const seen = [...dw.clusters.keys()].filter((name) => name !== cluster).toSorted()
  const may = seen.length === 0 ? 'it may see none' : `it may see ${seen.join(', ')}`
  await note(io, `${cluster}: no such cluster, or this identity may not see it; ${may}. Ctrl-C ends the waiting`)
}

async function sayWhereToResume(watch: Watch, io: Terminal): Promise<void> {
  const { cursor } = watch
  if (cursor !== undefined) return note(io, `to go on from here: --from ${cursor}`)
  await note(io, 'no cursor to go on from: the gateway names one in its first bookmark, at most five seconds on')
}

const jsonLine = (change: Change, watch: Watch): string => {
  const cursor = change.kind === 'bookmark' ? { cursor: watch.cursor } : {}
  return `${JSON.stringify({ ...change, ...cursor })}\n`
}

const OP_COLOUR: Readonly<Record<string, Colour>> = { put: 'green', delete: 'red', leave: 'yellow', is: 'grey' }

function rows(io: Terminal, paint: Paint, widest: number): (change: Change) => string {
  const row = (cluster: string, revision: string, op: string, key: string, value: string): string => {
    const head = `${cluster.padEnd(widest)}  ${revision.padStart(9)}  `
    const room = Math.max(20, io.out.columns - head.length - 8)
    const name = fit(key, room)
    const rest = fit(value, Math.max(0, room - name.length - 2))
    const tail = rest === '' ? '' : `  ${paint('grey', rest)}`
    return `${paint('cyan', head)}${paint(OP_COLOUR[op] ?? 'blue', op.padEnd(7))} ${name}${tail}\n`
  }
  const told = (cluster: string, colour: Colour, text: string): string =>
    `${paint('cyan', cluster.padEnd(widest))}  ${paint(colour, text)}\n`
  return (change) => {
    switch (change.kind) {
      case 'snapshot':
      case 'state': {
        const what = change.kind === 'snapshot' ? `${change.base} snapshot` : `state from ${change.fromRevision}`
        const items = change.items.map((item) =>
          'gone' in item
            ? row(change.cluster, change.revision, item.gone, keyText(item), '')
            : row(change.cluster, item.revision, 'is', keyText(item), preview(item satisfies Entry)),
        )
        const count = `${change.items.length} ${change.items.length === 1 ? 'key' : 'keys'}`
        return told(change.cluster, 'bold', `${what} at revision ${change.revision}: ${count}`) + items.join('')
      }
      case 'events':
        // The revision stands once: what follows without one is the same transaction.
        return change.events
          .map((event, i) =>
            row(
              i === 0 ? change.cluster : '',
              i === 0 ? change.revision : '',
              event.op,
              keyText(event),
              event.op === 'put' ? preview(event satisfies KeyEvent) : '',
            ),
          )
          .join('')
      case 'bookmark':
        return Object.entries(change.clusters)
          .map(([name, { revision, state, ageMs }]) =>
            told(name, 'grey', `complete up to revision ${revision} (${state}, proved ${ageText(ageMs)} ago)`),
          )
          .join('')
      case 'resync': {
        const at = change.to === undefined ? '' : ` at revision ${change.to.revision}`
        return told(change.cluster, 'yellow', `continuity was broken (${change.reason}); it goes on${at}`)
      }
      case 'scope':
        return change.left.map((name) => row(change.cluster, '', 'leave', keyText(name), '(policy changed)')).join('')
      case 'cluster':
        return told(change.cluster, change.state === 'live' ? 'green' : 'yellow', `is ${change.state}`)
      default:
        return change satisfies never
    }
  }
}
