// Up to where a log may be purged, decided from logs as agents write them: in memory, every entry encoded and decoded.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { planPurge, type PurgeStep } from '#client/cli/hub/purge.ts'
import { decodeEntry } from '#protocol/log/decode.ts'
import { newestPolicyChange, readBegins, readLogTail, type ReadEntry } from '#protocol/log/retained.ts'
import { LogWriter } from '../gateway-upstream/log-writer.ts'

class Log {
  readonly messages: Uint8Array[] = []
  readonly writer = new LogWriter({ sink: (_seq, data) => void this.messages.push(data) })
  firstSeq = 1
  reads = 0

  get bounds() {
    return { firstSeq: this.firstSeq, lastSeq: this.messages.length }
  }
  readonly read: ReadEntry = (seq) => {
    this.reads++
    const data = seq < this.firstSeq ? undefined : this.messages[seq - 1]
    const decoded = data === undefined ? undefined : decodeEntry(data)
    return Promise.resolve(decoded?.ok === true ? decoded.value : undefined)
  }
  put(key = '/a'): void {
    this.writer.events([{ op: 'put', key, value: 'v' }])
  }
  checkpoint(reason: 'epoch' | 'gap' | 'policy' | 'routine'): number {
    this.writer.checkpoint(reason)
    return this.writer.newestComplete
  }
  begins = async (most = 100) => {
    const tail = await readLogTail(this.bounds, this.read)
    const newest = tail.kind === 'known' ? tail.newestCompleteBeginSeq : 0
    return { tail, begins: await readBegins(newest, this.firstSeq, this.read, most) }
  }
  async plan(whole = false, most = 100): Promise<PurgeStep> {
    const { tail, begins } = await this.begins(most)
    return planPurge(this.bounds, tail, begins, whole)
  }
  async changedAt(): Promise<number | undefined> {
    return newestPolicyChange((await this.begins()).begins)?.seq
  }
}
const started = (): Log => {
  const log = new Log()
  log.checkpoint('epoch')
  log.put()
  return log
}
const codeOf = (step: PurgeStep): string => (step.outcome === 'refused' ? step.code : step.outcome)

describe('up to where a log may be purged', () => {
  test('a log that begins with its epoch retains nothing', async () => {
    const log = started()
    log.checkpoint('routine')
    assert.equal(codeOf(await log.plan()), 'nothing-retained')
    assert.equal(codeOf(await new Log().plan()), 'nothing-retained')
  })

  test('to the newest policy checkpoint, past routine ones behind it, and no further once that is done', async () => {
    const log = started()
    log.checkpoint('policy')
    log.put()
    const upTo = log.checkpoint('policy')
    log.put()
    log.checkpoint('routine')
    log.checkpoint('gap')
    log.put()
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'policy' })
    log.firstSeq = upTo
    assert.equal(codeOf(await log.plan()), 'nothing-retained')
    log.firstSeq = upTo + 1
    assert.equal(codeOf(await log.plan()), 'no-policy-checkpoint', 'its BEGIN is trimmed, and so is all before it')
    assert.equal(await log.changedAt(), undefined)
  })

  test('to a new epoch: nobody reads what stands before it, though it need not say more', async () => {
    const log = started()
    log.writer.epoch = '00000000000000e2' as typeof log.writer.epoch
    const upTo = log.checkpoint('epoch')
    log.put()
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'epoch' })
    assert.equal(await log.changedAt(), 1, 'under the same configuration: no change of policy')
  })

  test('a checkpoint after a gap, and a new epoch, under another configuration are a change of policy', async () => {
    for (const reason of ['gap', 'epoch'] as const) {
      const log = started()
      log.writer.configHash = 'config-2'
      const upTo = log.checkpoint(reason)
      log.put()
      log.checkpoint('routine')
      assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: reason })
      assert.equal(await log.changedAt(), upTo)
    }
  })

  test('an epoch begun behind an end nobody could read is taken for a change of policy', async () => {
    const log = started()
    log.messages.push(Buffer.from('not an entry'))
    log.writer.seq++
    log.writer.newEpoch(2, 0)
    log.writer.lastId = '0'.repeat(32) as typeof log.writer.lastId
    log.writer.knownFrom(log.writer.seq)
    const upTo = log.checkpoint('epoch')
    log.put()
    assert.equal(await log.changedAt(), upTo)
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'epoch' })
  })

  test('refused by name: a checkpoint under way, an end that cannot be read, a BEGIN that is none, too many', async () => {
    const log = started()
    const open = log.writer.begin('policy')
    for (const whole of [false, true]) assert.equal(codeOf(await log.plan(whole)), 'DW_HUB_PURGE_PENDING')
    open.items(10)
    assert.equal(codeOf(await log.plan()), 'DW_HUB_PURGE_PENDING')
    open.end()
    assert.equal(codeOf(await log.plan()), 'purge')
    log.messages.push(Buffer.from('not an entry'))
    for (const whole of [false, true]) assert.equal(codeOf(await log.plan(whole)), 'DW_HUB_PURGE_TAIL')

    const lying = started()
    lying.writer.newestComplete = 2
    lying.put()
    assert.equal(codeOf(await lying.plan()), 'DW_HUB_PURGE_CHECKPOINT')
    assert.equal(codeOf(await lying.plan(true)), 'purge-whole')

    const long = started()
    long.checkpoint('policy')
    for (let i = 0; i < 8; i++) long.checkpoint('routine')
    assert.equal(codeOf(await long.plan(false, 8)), 'DW_HUB_PURGE_FAR')
    assert.equal(codeOf(await long.plan(false, 9)), 'purge')
  })

  test('what void entries claim of checkpoints counts for nothing', async () => {
    const log = started()
    const upTo = log.checkpoint('policy')
    log.put()
    const { writer } = log
    const [complete, pending] = [writer.newestComplete, writer.pending]
    Object.assign(writer, { newestComplete: writer.seq, pending: 'policy' })
    writer.zombies(3)
    Object.assign(writer, { newestComplete: complete, pending })
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'policy' })
    log.put()
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'policy' })
  })

  test('a routine checkpoint under way keeps the complete one before it; the whole log goes only when asked for', async () => {
    const log = started()
    const upTo = log.checkpoint('policy')
    log.put()
    log.writer.begin('routine').items(1)
    assert.deepEqual(await log.plan(), { outcome: 'purge', upTo, checkpoint: 'policy' })
    assert.equal(codeOf(await log.plan(true)), 'purge-whole')
  })

  test('whatever the log: no complete checkpoint a reader needs is ever purged', async () => {
    const step = fc.constantFrom('put', 'zombies', 'config', 'routine', 'gap', 'policy', 'epoch', 'open', 'trim')
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 25 }), async (steps) => {
        const log = started()
        let changed = 0
        for (const [i, one] of steps.entries()) {
          if (one === 'put') log.put(`/k${i}`)
          else if (one === 'zombies') log.writer.zombies(3)
          else if (one === 'open') log.writer.begin('routine')
          else if (one === 'trim') log.firstSeq = Math.min(log.writer.newestComplete, log.firstSeq + 2)
          else if (one === 'config') {
            log.writer.configHash = `config-${i + 2}`
            changed = log.checkpoint('policy')
          } else if (one === 'policy') changed = log.checkpoint(one)
          else log.checkpoint(one)
        }
        const plan = await log.plan()
        assert.notEqual(plan.outcome, 'refused')
        const first = plan.outcome === 'purge' ? plan.upTo : log.firstSeq
        assert.ok(first <= log.writer.newestComplete, 'the newest complete checkpoint stays')
        assert.ok(first >= changed, 'nothing from before the newest policy is left')
        log.firstSeq = first
        assert.notEqual(codeOf(await log.plan()), 'purge')
        assert.ok(log.reads < 50 * (steps.length + 5), `${log.reads} reads`)
      }),
      { numRuns: 200 },
    )
  })
})
