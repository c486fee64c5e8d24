// The watch machine against a model of etcd: a history, served with fragments, duplicates, bookmarks and cuts.
// However it is cut and resumed, what comes out is the history from the start revision on: whole, in order, once.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { addRevision } from '#protocol/revision.ts'
import { WatchMachine } from '#agent/watch/state.ts'
import { created, header, put, response, rev } from '../../unit/agent/fixtures.ts'

type Revision = { readonly at: number; readonly keys: readonly string[] }

const histories = fc
  .array(fc.record({ gap: fc.integer({ min: 1, max: 4 }), size: fc.integer({ min: 1, max: 5 }) }), {
    minLength: 1,
    maxLength: 30,
  })
  .map((list) => {
    let at = 1
    return list.map(({ gap, size }): Revision => {
      at += gap
      return { at, keys: Array.from({ length: size }, (_, i) => `/k${i}`) }
    })
  })

/** What etcd's stream would carry from `from` on, cut into responses by `cuts`. */
function serve(history: readonly Revision[], from: number, cuts: fc.Stream<number>): object[] {
  const head = history.at(-1)?.at ?? 1
  const choose = (n: number): number => (cuts.next().value ?? 0) % n
  const out: object[] = [created(head)]
  let batch: object[] = []
  const flush = (fragment: boolean): void => {
    if (batch.length === 0) return
    out.push(response({ header: header(head), events: batch, fragment }))
    batch = []
  }
  for (const revision of history.filter((one) => one.at >= from)) {
    for (const [i, key] of revision.keys.entries()) {
      batch.push(put(key, revision.at))
      const last = i === revision.keys.length - 1
      // Inside a revision only fragments may end a message; between revisions anything may.
      if (!last && choose(3) === 0) flush(true)
      else if (last && choose(2) === 0) flush(choose(2) === 0)
    }
  }
  flush(false)
  // The last piece of a response is never marked as a fragment.
  const final = out.at(-1) as { fragment?: boolean; events?: object[] }
  if (final.fragment === true) out[out.length - 1] = { ...final, fragment: false }
  return out
}

describe('the watch machine and etcd', () => {
  it('I1: cut anywhere and resumed behind the cursor, puts out the history whole, in order, once', () => {
    fc.assert(
      fc.property(
        histories,
        fc.infiniteStream(fc.nat(1_000)),
        fc.array(fc.nat(40), { maxLength: 6 }),
        (history, cuts, lives) => {
          const seen: Revision[] = []
          let cursor = rev(1)
          // Each life of a stream ends after some responses; the last one runs to the end.
          for (const life of [...lives, Number.POSITIVE_INFINITY]) {
            const startRevision = addRevision(cursor, 1)
            const machine = new WatchMachine({ startRevision, trustsManualProgress: true, maxRevisionBytes: 1e6 })
            for (const message of serve(history, Number(startRevision), cuts).slice(0, life)) {
              for (const output of machine.receive(message, 0)) {
                assert.notEqual(output.kind, 'ended')
                if (output.kind !== 'revision') continue
                seen.push({ at: Number(output.revision.revision), keys: output.revision.changes.map((c) => c.key) })
              }
            }
            ;({ cursor } = machine)
          }
          assert.deepEqual(seen, history)
        },
      ),
      { numRuns: 500 },
    )
  })

  it('the model is not blind: resuming behind the header instead of the cursor loses revisions', () => {
    const history = [2, 3, 4, 5].map((at) => ({ at, keys: ['/k'] }))
    const [first, second] = serve(history, 2, fc.sample(fc.infiniteStream(fc.constant(0)), 1)[0] as fc.Stream<number>)
    const machine = new WatchMachine({ startRevision: rev(2), trustsManualProgress: true, maxRevisionBytes: 1e6 })
    machine.receive(first, 0)
    machine.receive(second, 0)
    assert.ok(Number(machine.header?.revision) > Number(machine.cursor), 'the header is ahead of what was put out')
  })
})
