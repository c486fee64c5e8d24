// Are the tests of policy blind? The product broken in one place at a time must show the breach, the whole product none.
// Owns: the small road that all of them take, and what each breach looks like from outside.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { EtcdHttp } from '../judge/etcd-http.ts'
import { readLog } from '../judge/log-reader.ts'
import { importOption } from '../mutation/mutations.ts'
import { type Breach, POLICY_MUTATIONS, type PolicyMutation } from '../mutation/policy-mutations.ts'
import { LeakScanner } from '../support/leak-scan.ts'
import { planted } from '../support/planted-data.ts'
import { allow, CLUSTER, eventually, policy, PolicyStack } from './policy-stack.ts'
import { Recorder } from './recorder.ts'

const [HOME, MASKED, SEALED] = [planted(3, 20), planted(4, 20), planted(5, 20)]
/** At the hub's own region `cards` speaks alone, so the mask is deliver's work. */
const document = (later: boolean): string =>
  policy(
    allow('home', '/home/**', 'sz'),
    allow('cards', '/cards/**', 'sz'),
    allow('cards-abroad', '/cards/**', 'hk', 'transform: [{ field: /id, action: mask }], '),
    allow('cases', '/cases/**', 'sz, hk', `when: 'value.class == "open"', `),
    allow('open', '/open/**', 'sz, hk'),
    ...(later ? [allow('later', '/later/**', 'sz, hk')] : [allow('later', '/later/**', 'sz')]),
  )

async function breaches(mutation: PolicyMutation | undefined): Promise<readonly Breach[]> {
  await using owned = new AsyncDisposableStack()
  const stack = owned.use(
    await PolicyStack.start({
      bundles: { live: document(true) },
      gatewayFlags: ['--decisions-share', '1'],
      ...(mutation === undefined ? {} : { node: { [mutation.part]: [importOption(mutation)] } }),
    }),
  )
  let denials = 0
  stack.nc.subscribe(`dw.decision.${CLUSTER}`, {
    callback: (_error, message) => {
      const { stage, effect } = message.json<{ stage: string; effect: string }>()
      if (stage === 'deliver' && effect === 'deny') denials++
    },
  })
  await stack.nc.flush()
  const etcd = owned.use(new EtcdHttp(stack.stack.first.etcd.directUrl))
  const put = async (key: string, value: object): Promise<number> =>
    (await etcd.write([{ op: 'put', key, value: Buffer.from(JSON.stringify(value)) }])).revision
  const hk = owned.use(new Recorder(stack.stack.url, { prefix: '/', start: 'snapshot' }, { token: 'dev:r:hk' }))
  await hk.change((c) => c.kind === 'snapshot')
  for (const [i, text] of HOME.entries()) await put(`/home/${i}`, { text })
  for (const [i, id] of MASKED.entries()) await put(`/cards/${i}`, { id })
  for (const [i, text] of SEALED.entries()) await put(`/cases/${i}`, { class: 'sealed', text })
  await hk.reached(CLUSTER, await put('/later/1', {}))

  await stack.publish(document(false))
  const answered = (): boolean =>
    hk.transcript.texts.some((text) => text.includes('"resync"') && text.includes('policy'))
  await hk.until(answered, () => hk.transcript.texts.slice(-4).join('\n'), 15_000)
  await hk.reached(CLUSTER, await put('/open/1', {}))

  const frames = hk.transcript.texts.join('\n')
  const log = Buffer.concat((await readLog(stack.stack.nats.directUrl, CLUSTER)).map((m) => m.data))
  const recorded = await eventually(async () => String(denials > 0), /true/, 3_000).then(
    () => true,
    () => false,
  )
  const named = hk.transcript.texts.some((text) => text.includes('"scope"') && text.includes('/later/1'))
  const found: readonly (readonly [Breach, boolean])[] = [
    ['a class sees what deliver denies', new LeakScanner(HOME).count(frames) > 0],
    ['a class sees what deliver masks', new LeakScanner(MASKED).count(frames) > 0],
    ['the log holds what egress denies', new LeakScanner(SEALED).count(log) > 0],
    ['a key that left the view is not named', !named],
    ['a denial of deliver is not recorded', !recorded],
  ]
  assert.ok(new LeakScanner(HOME).count(log) === HOME.length, 'the scanner finds what is there')
  return found.flatMap(([breach, is]) => (is ? [breach] : []))
}

describe('policy, broken on purpose', () => {
  it('I6: the whole product shows no breach', async () => {
    assert.deepEqual(await breaches(undefined), [])
  })
  for (const mutation of POLICY_MUTATIONS) {
    it(`noticed: ${mutation.about}`, async () => {
      const found = await breaches(mutation)
      assert.ok(found.includes(mutation.breach), `found only: ${found.join(', ')}`)
    })
  }
})
