// Rates of a policy document on the whole product: who has one gets everything at that pace and is told so, everybody else at once.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { JudgedCluster } from './judged.ts'
import { allow, BUCKET, policy, PolicyStack } from './policy-stack.ts'
import { type RawFrame, RawSession } from './raw-session.ts'

const EVENTS = 10
const BYTES = 2_048
const OPEN = policy(allow('open', '/open/**', 'sz, hk'))
const LIMITS = `  limits:
    - { to: { audience: ["org:slow"] }, events: ${EVENTS}/s }
    - { to: { audience: ["org:thin"] }, bytes: ${BYTES}B/s }
`
const STABLE = OPEN + LIMITS

type Written = { readonly key: string; readonly revision: number }
type Got = Written & { readonly at: number; readonly bytes: number }

class Reader implements AsyncDisposable {
  readonly session: RawSession
  readonly #from: number

  private constructor(session: RawSession) {
    this.session = session
    this.#from = session.frames.length
  }

  /** Watching, with its snapshot behind it. */
  static async open(url: string, token: string, prefix: string, mode: 'log' | 'state' = 'log'): Promise<Reader> {
    const session = await RawSession.welcomed(url, token)
    session.send({ type: 'watch', id: 'w', prefix, mode, start: 'snapshot' })
    await session.frame((f) => f.type === 'snapshot' && f['phase'] === 'end')
    return new Reader(session)
  }

  /** Every change received so far, in order, with the moment of its arrival and the bytes of its frame. */
  get got(): readonly Got[] {
    const { frames, arrivals } = this.session
    return frames.flatMap((frame, i) => {
      if (i < this.#from || (frame.type !== 'events' && frame.type !== 'state')) return []
      const at = arrivals[i] as number
      const bytes = JSON.stringify(frame).length
      const items = (frame.type === 'events' ? frame['events'] : frame['items']) as readonly Record<string, string>[]
      return items.map((item, n) => {
        const revision = Number(item['revision'] ?? frame['revision'])
        return { key: item['key'] as string, revision, at, bytes: n === 0 ? bytes : 0 }
      })
    })
  }

  /** Errors told since the watch was opened. */
  get errors(): readonly RawFrame[] {
    return this.session.frames.filter((frame) => frame.type === 'error')
  }

  /** Resolves when everything up to `revision` came. */
  async reached(revision: number): Promise<void> {
    await this.session.frame(
      (f) => (f.type === 'events' || (f.type === 'state' && f['last'] === true)) && Number(f['revision']) >= revision,
      30_000,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.session[Symbol.asyncDispose]()
  }
}

/** A full bucket when writing began, then the rate: no change may come before there is room for it. */
function assertPaced(got: readonly Got[], began: number, rate: number, weigh: (got: Got) => number): void {
  let sum = 0
  for (const [i, change] of got.entries()) {
    sum += weigh(change)
    const allowed = rate + (rate * (change.at - began)) / 1000
    assert.ok(sum <= allowed, `change ${i + 1} came after ${Math.round(change.at - began)} ms: ${sum} of ${allowed}`)
  }
}

const places = (changes: readonly Written[]): readonly Written[] =>
  changes.map(({ key, revision }) => ({ key, revision }))

/** Told once, by the code, as something that goes on by itself. */
function assertTold({ errors }: Reader): void {
  assert.deepEqual(
    errors.map((frame) => [frame['code'], frame['temporary']]),
    [['DW4110', true]],
  )
}

describe('rates of a policy document', () => {
  let stack: PolicyStack
  let judge: JudgedCluster
  let url: string

  before(async () => {
    stack = await PolicyStack.start({
      bundles: { live: STABLE, canary: OPEN },
      gatewayFlags: [
        '--canary-policies',
        `kv://${BUCKET}/canary`,
        '--canary-share',
        '0',
        '--canary-labels',
        'env=canary',
      ],
    })
    judge = await JudgedCluster.begin(stack.stack, stack.stack.first)
    url = stack.stack.url
    // Until the agent serves the cluster a watch has nothing to begin with.
    await judge.writer.put([{ op: 'put', key: '/open/first', value: Buffer.from('{}') }])
  })
  after(async () => {
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })

  /** Single puts, all asked for at once, in the order etcd gave them. */
  async function put(count: number, key: (i: number) => string, value: unknown): Promise<readonly Written[]> {
    const bytes = Buffer.from(JSON.stringify(value))
    const written = await Promise.all(
      Array.from({ length: count }, async (_, i) => {
        const revision = await judge.writer.put([{ op: 'put', key: key(i), value: bytes }])
        return { key: key(i), revision }
      }),
    )
    return written.toSorted((a, b) => a.revision - b.revision)
  }
  const last = (written: readonly Written[]): number => written.at(-1)?.revision ?? Number.NaN

  it('X3: sixty puts at ten events per second come over five seconds, exactly once and in order; others get them at once', async () => {
    await using slow = await Reader.open(url, 'dev:a:hk::slow', '/open/a/')
    await using free = await Reader.open(url, 'dev:b:hk::free', '/open/a/')
    const began = performance.now()
    const written = await put(60, (i) => `/open/a/${i}`, { n: 1 })
    await Promise.all([slow.reached(last(written)), free.reached(last(written))])
    assert.deepEqual(places(slow.got), written)
    assert.deepEqual(places(free.got), written)
    assertPaced(slow.got, began, EVENTS, () => 1)
    assert.ok((slow.got.at(-1)?.at ?? 0) - began >= 4_000)
    assert.ok((free.got.at(-1)?.at ?? 0) < (slow.got[40]?.at ?? 0), 'who has no rate waited for who has one')
    assertTold(slow)
    assert.deepEqual(free.errors, [])
  })

  it('X3: a rate in bytes paces by what is written', async () => {
    await using thin = await Reader.open(url, 'dev:c:hk::thin', '/open/b/')
    const began = performance.now()
    const written = await put(20, (i) => `/open/b/${i}`, { text: 'x'.repeat(350) })
    await thin.reached(last(written))
    assert.deepEqual(places(thin.got), written)
    assertPaced(thin.got, began, BYTES, ({ bytes }) => bytes)
    assert.ok((thin.got.at(-1)?.at ?? 0) - began >= 2_500)
    assertTold(thin)
  })

  it('X3: the strictest of several rates counts', async () => {
    const both = 'to: { audience: ["org:slow", "org:both"] }'
    const document = `${OPEN}  limits:\n    - { ${both}, events: 1000/s }\n    - { to: { regions: [hk] }, events: 5/s }\n`
    await swapped(() => stack.publish(document))
    await using reader = await Reader.open(url, 'dev:d:hk::both', '/open/c/')
    const began = performance.now()
    const written = await put(15, (i) => `/open/c/${i}`, 1)
    await reader.reached(last(written))
    assertPaced(reader.got, began, 5, () => 1)
    await swapped(() => stack.publish(STABLE))
  })

  it('in state mode a rate conflates: three hot keys cost a difference now and then, the newest value comes at the end', async () => {
    await using slow = await Reader.open(url, 'dev:e:hk::slow', '/open/d/', 'state')
    const began = performance.now()
    const written = await put(60, (i) => `/open/d/${i % 3}`, { n: 2 })
    await slow.reached(last(written))
    assertPaced(slow.got, began, EVENTS, () => 1)
    assert.ok(slow.got.length < written.length, 'nothing was conflated')
    for (const key of ['/open/d/0', '/open/d/1', '/open/d/2']) {
      const newest = written.findLast((put) => put.key === key)?.revision
      assert.equal(slow.got.findLast((got) => got.key === key)?.revision, newest, key)
    }
  })

  it('X3: a rate that comes with a new bundle binds who is connected, and one that goes frees them', async () => {
    await swapped(() => stack.publish(OPEN))
    await using slow = await Reader.open(url, 'dev:f:hk::slow', '/open/e/')
    const free = await put(40, (i) => `/open/e/${i}`, 1)
    await slow.reached(last(free))
    assert.deepEqual(slow.errors, [])
    await swapped(() => stack.publish(STABLE))
    const before = slow.got.length
    const began = performance.now()
    const written = await put(30, (i) => `/open/e/${i}`, 2)
    await slow.session.frame((f) => f.type === 'error' && f['code'] === 'DW4110')
    await swapped(() => stack.publish(OPEN))
    await slow.reached(last(written))
    assert.deepEqual(places(slow.got), [...free, ...written])
    // As long as the rate stood: what came later came without one.
    assertPaced(slow.got.slice(before, before + 12), began, EVENTS, () => 1)
    await swapped(() => stack.publish(STABLE))
  })

  it('a canary has the rates of its own document, or none', async () => {
    await using canary = await Reader.open(url, 'dev:g:hk::slow:env=canary', '/open/f/')
    await using slow = await Reader.open(url, 'dev:g:hk::slow', '/open/f/')
    const written = await put(30, (i) => `/open/f/${i}`, 1)
    await Promise.all([canary.reached(last(written)), slow.reached(last(written))])
    assert.deepEqual(canary.errors, [])
    assertTold(slow)
    assert.ok((canary.got.at(-1)?.at ?? 0) < (slow.got.at(-1)?.at ?? 0))
  })

  async function swapped(publish: () => Promise<void>): Promise<void> {
    const since = stack.stack.gateway?.process.lineCount() ?? 0
    await publish()
    await stack.stack.gateway?.process.waitForLine(/"event":"policy bundle swapped"/, { since })
  }
})
