// Bundles published to a running stack: what is bad is refused and the old one stays, what differs is an alarm, a canary serves the
// same subjects on every gateway.

import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { JudgedCluster } from './judged.ts'
import { allow, BUCKET, CLUSTER, eventually, policy, PolicyStack } from './policy-stack.ts'
import { RawSession } from './raw-session.ts'
import { Recorder } from './recorder.ts'

const STABLE = policy(allow('open', '/open/**', 'sz, hk'))
const CANARY = policy(allow('open', '/open/**', 'sz, hk'), allow('next', '/next/**', 'sz, hk'))
/** Egress lets out what the canary shows: deliver can only narrow. */
const AGENT = CANARY
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

const HOSTILE: Readonly<Record<string, string>> = {
  'an alias bomb': `a: &a [x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b]\n`,
  'a key twice': STABLE.replace('  mode: enforce', '  mode: enforce\n  mode: shadow'),
  'an unknown field': STABLE.replace('  mode: enforce', '  mode: enforce\n  modes: enforce'),
  'an unknown version': STABLE.replace('watch-policy/v1', 'watch-policy/v9'),
  'a regular expression': policy(allow('r', '/open/**', 'sz, hk', `when: 'value.a.matches("(a+)+$")', `)),
  'a deep expression': policy(allow('r', '/open/**', 'sz, hk', `when: '${'('.repeat(400)}true${')'.repeat(400)}', `)),
  'a huge glob': policy(allow('r', `/${'*/'.repeat(4_000)}x`, 'sz, hk')),
  nesting: `a: ${'['.repeat(100_000)}`,
}

describe('bundles published to a running stack', () => {
  let stack: PolicyStack
  let judge: JudgedCluster
  let reader: Recorder
  const put = (key: string): Promise<number> => judge.writer.put([{ op: 'put', key, value: json({ key }) }])
  const ready = (): Promise<string> => stack.gatewayText('/readyz?verbose')

  before(async () => {
    stack = await PolicyStack.start({
      bundles: { live: STABLE, agent: AGENT, canary: CANARY },
      agentFlags: ['--policies', `kv://${BUCKET}/agent`],
      gatewayFlags: [
        '--canary-policies',
        `kv://${BUCKET}/canary`,
        '--canary-share',
        '0.5',
        '--canary-labels',
        'env=canary',
        '--policy-skew',
        '1s',
      ],
    })
    judge = await JudgedCluster.begin(stack.stack, stack.stack.first)
    reader = new Recorder(stack.stack.url, { prefix: '/open/', start: 'snapshot' })
    await reader.change((c) => c.kind === 'snapshot')
  })
  after(async () => {
    await reader?.[Symbol.asyncDispose]()
    await judge?.[Symbol.asyncDispose]()
    await stack?.[Symbol.asyncDispose]()
  })

  it('an agent that enforces another bundle than the gateway is an alarm, and agreement ends it', async () => {
    const metrics = (): Promise<string> => stack.gatewayText('/metrics')
    await eventually(metrics, /deltawatch_policy_skew\{cluster="sz-edge-1"\} 1/)
    assert.match(await ready(), /bundles differ: sz-edge-1 enforces [0-9a-f]{12}/)
    assert.match(stack.stack.gateway?.log() ?? '', /"event":"policy bundles differ"/)
    await stack.publish(STABLE, 'agent')
    await eventually(metrics, /deltawatch_policy_skew\{cluster="sz-edge-1"\} 0/)
    await stack.publish(AGENT, 'agent')
    await eventually(() => stack.agentText('/readyz?verbose'), /policy/)
  })

  for (const [what, document] of Object.entries(HOSTILE)) {
    it(`I10: ${what} is refused by agent and gateway, and the old bundle stays live`, async () => {
      await refused(async () => {
        await stack.publish(document, 'live')
        await stack.publish(document, 'agent')
      })
    })
  }

  it('ten thousand rules are compiled beside live traffic', async () => {
    const since = stack.stack.gateway?.process.lineCount() ?? 0
    const many = Array.from({ length: 10_000 }, (_, i) => `{id: r${i}, effect: deny, match: {keys: ["/d/${i}"]}}`)
    await stack.publish(policy(allow('open', '/open/**', 'sz, hk'), ...many))
    const swapped = /"rules":10001.*"event":"policy bundle swapped"/
    await stack.stack.gateway?.process.waitForLine(swapped, { since })
    await reader.reached(CLUSTER, await put('/open/many'))
    assert.equal(reader.connections.length, 1)
    await stack.publish(STABLE)
  })

  it('more rules than a bundle may have are refused by name, and what the hub cannot take never gets there', async () => {
    // As short as rules get, so that one more than may be fits an entry of the bucket.
    const rules = (n: number): string => {
      const all = Array.from({ length: n }, (_, i) => `{id: r${i},effect: deny,match: {keys: [/d]}}`)
      return policy('RULES').replace('rules:\n    - RULES', () => `rules: [${all.join(',')}]`)
    }
    await refused(async () => {
      await stack.publish(rules(20_001), 'live')
      await stack.publish(rules(20_001), 'agent')
    }, /spec\.rules .*20000 items \[bad-document\]/)
    await assert.rejects(stack.publish(rules(40_000), 'live'), /payload/i)
    assert.match(await ready(), /^(?!.*refused)/s)
  })

  it('I6: a bundle without signature, or with one of other bytes, is refused', async () => {
    await refused(async () => {
      await stack.publish(CANARY, 'live', false)
      await stack.publish(STABLE, 'agent', false)
    })
    const forged = JSON.parse(Buffer.from(stack.bundle(STABLE)).toString()) as { files: Record<string, string> }
    forged.files['sz.yaml'] = CANARY
    await refused(async () => {
      await stack.kv.put('live', JSON.stringify(forged))
      await stack.kv.put('agent', JSON.stringify(forged))
    })
  })

  it('a deleted entry changes nothing', async () => {
    await refused(async () => {
      await stack.kv.delete('live')
      await stack.kv.delete('agent')
    })
  })

  it('a process that starts while the newest bundle is bad takes the newest good one', async () => {
    await stack.publish(HOSTILE['a regular expression'] as string, 'live')
    const second = await stack.secondGateway()
    await using session = await RawSession.welcomed(second)
    session.send({ type: 'watch', id: 'w', prefix: '/open/', start: 'snapshot' })
    await session.frame((f) => (f.type === 'snapshot' && f['stage'] !== undefined) || f.type === 'watching')
    await stack.publish(STABLE, 'live')
    // The skew of the bundles remains; the refusal is gone.
    await eventually(ready, /policy degraded: bundle [0-9a-f]{12}, canary [0-9a-f]{12}, bundles differ/)
  })

  it('a canary serves the same subjects on both gateways, half of them, whoever the label names, and no anonymous one', async () => {
    await put('/next/1')
    await reader.reached(CLUSTER, await put('/open/2'))
    const urls = [stack.stack.url, await stack.secondGateway()]
    const served = async (url: string, token: string | undefined): Promise<boolean> => {
      await using session = await RawSession.welcomed(url, token)
      session.send({ type: 'watch', id: 'w', prefix: '/', start: 'snapshot' })
      // Written after /next/1, and behind it in every snapshot: who has got it has got both, or will get one only.
      await session.frame((f) => JSON.stringify(f).includes('/open/2'))
      const text = JSON.stringify(session.frames)
      return text.includes('/next/1')
    }
    const subjects = Array.from({ length: 24 }, (_, i) => `subject-${i}`)
    const answers = await Promise.all(urls.map((url) => Promise.all(subjects.map((s) => served(url, `dev:${s}:hk`)))))
    assert.deepEqual(answers[0], answers[1])
    const canaries = answers[0]?.filter(Boolean).length ?? 0
    assert.ok(canaries > 3 && canaries < 21, `${canaries} of 24`)
    const stable = subjects[answers[0]?.indexOf(false) ?? 0] as string
    for (const url of urls) {
      assert.equal(await served(url, `dev:${stable}:hk:::env=canary`), true)
      assert.equal(await served(url, `dev:${stable}:hk:::env=other`), false)
      assert.equal(await served(url, undefined), false)
    }
  })

  /** Publishes something bad, sees both say so, sees traffic go on under the old bundle, and puts a good one in its place. */
  async function refused(publish: () => Promise<void>, why = /refused/): Promise<void> {
    const since = stack.stack.gateway?.process.lineCount() ?? 0
    const agentSince = stack.stack.first.agent?.process.lineCount() ?? 0
    await publish()
    const line = /policy bundle refused, the old one stays/
    await Promise.all([
      stack.stack.gateway?.process.waitForLine(line, { since }),
      stack.stack.first.agent?.process.waitForLine(line, { since: agentSince }),
    ])
    assert.match(await ready(), /refused/)
    assert.match(stack.stack.gateway?.log().split('\n').slice(since).join('\n') ?? '', why)
    assert.match(await stack.agentText('/readyz?verbose'), /the old bundle stays/)
    await reader.reached(CLUSTER, await put('/open/1'))
    const last = reader.changes.findLast((c) => c.kind === 'events')
    assert.ok(last?.kind === 'events' && last.events[0]?.key === '/open/1')
    await stack.publish(STABLE, 'live')
    await stack.publish(AGENT, 'agent')
    const good = /policy bundle is good again/
    await Promise.all([
      stack.stack.gateway?.process.waitForLine(good, { since }),
      stack.stack.first.agent?.process.waitForLine(good, { since: agentSince }),
    ])
  }
})
