// What `hub apply` decides, what `hub permissions` grants, and how a table is laid out.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Command } from 'commander'
import { registerHubCommands } from '#client/cli/hub.ts'
import { planStream, type Wanted } from '#client/cli/hub/stream-plan.ts'
import { table } from '#client/cli/hub/terminal.ts'
import { hubUsers, permissionsText } from '#client/cli/hub/users.ts'
import { configFor, keepsMetadata, streamConfig } from '#protocol/log/stream.ts'
import { agentPublishSubjects, parseClusterId } from '#protocol/subjects.ts'

const MIB = 1024 * 1024
const id = (text: string) => parseClusterId(text) ?? assert.fail(text)
const cluster = id('sz-edge-1')
const defaults = { maxBytes: 1024 * MIB, maxMessageBytes: MIB }
const wanted = (more: Partial<Wanted> = {}): Wanted => ({ cluster, repair: false, shrink: false, ...more })
const standing = (differing: Readonly<Record<string, unknown>> = {}, bytes = 0) => ({
  config: { ...streamConfig({ cluster, ...defaults, replicas: 1 }), ...differing },
  bytes,
})
const reasons = (...args: Parameters<typeof planStream>): string => {
  const step = planStream(...args)
  return step.outcome === 'refused' ? step.reasons.join('\n') : assert.fail(step.outcome)
}

describe('the plan of one stream', () => {
  test('a missing stream is created from the protocol, with the region it was declared for', () => {
    const step = planStream(wanted({ hubRegion: 'sz', replicas: 3 }), undefined, defaults)
    assert.ok(step.outcome === 'created')
    const metadata = { 'deltawatch.hub-region': 'sz' }
    assert.deepEqual(step.config, { ...streamConfig({ cluster, ...defaults, replicas: 3 }), metadata })
  })

  test('what stands and was not asked to change stays: sizes, replicas, the settings of others', () => {
    const own = { max_bytes: 8 * MIB, max_msg_size: MIB, num_replicas: 3, duplicate_window: 5 }
    assert.deepEqual(planStream(wanted(), standing(own), defaults), { outcome: 'unchanged' })
    const step = planStream(wanted({ maxBytes: 16 * MIB }), standing(own), defaults)
    assert.ok(step.outcome === 'updated')
    assert.deepEqual(step.changes, [{ setting: 'max_bytes', from: 8 * MIB, to: 16 * MIB }])
    assert.equal(step.config['num_replicas'], 3)
    assert.equal(step.config['duplicate_window'], 5)
  })

  test("an update keeps others' metadata and leaves the server's to the server", () => {
    const metadata = { team: 'edge', '_nats.level': '1' }
    const step = planStream(wanted({ hubRegion: 'sz' }), standing({ metadata }), defaults)
    assert.ok(step.outcome === 'updated')
    assert.deepEqual(step.config['metadata'], { team: 'edge', 'deltawatch.hub-region': 'sz' })
  })

  test('each setting that matters is refused until repair is asked for; those no server changes always', () => {
    const repairable: Readonly<Record<string, unknown>> = {
      discard: 'new',
      max_age: 1,
      max_msgs: 9,
      max_msgs_per_subject: 1,
      deny_delete: false,
      allow_rollup_hdrs: true,
    }
    for (const [setting, value] of Object.entries(repairable)) {
      assert.match(reasons(wanted(), standing({ [setting]: value }), defaults), new RegExp(`^${setting} is .*--repair`))
      const step = planStream(wanted({ repair: true }), standing({ [setting]: value }), defaults)
      assert.ok(step.outcome === 'updated', setting)
      assert.equal(step.config[setting], standing().config[setting as keyof object])
    }
    for (const [setting, value] of Object.entries({ subjects: ['other'], storage: 'memory', retention: 'workqueue' })) {
      assert.match(reasons(wanted({ repair: true }), standing({ [setting]: value }), defaults), /cannot be changed/)
    }
  })

  test('a size that would drop entries needs --shrink; one that cannot hold a checkpoint is never taken', () => {
    const full = standing({}, 500 * MIB)
    assert.match(reasons(wanted({ maxBytes: 100 * MIB }), full, defaults), /oldest entries would be dropped.*--shrink/)
    assert.equal(planStream(wanted({ maxBytes: 100 * MIB, shrink: true }), full, defaults).outcome, 'updated')
    assert.match(reasons(wanted({ maxBytes: 2 * MIB, shrink: true }), standing(), defaults), /never below 4MiB/)
    assert.match(reasons(wanted({ maxBytes: 2 * MIB }), undefined, defaults), /never below 4MiB/)
  })

  test('a stream without bounds gets them', () => {
    const step = planStream(wanted(), standing({ max_bytes: -1, max_msg_size: -1 }), defaults)
    assert.ok(step.outcome === 'updated')
    assert.deepEqual([step.config['max_bytes'], step.config['max_msg_size']], [1024 * MIB, MIB])
  })

  test('another hub region is refused until repair is asked for', () => {
    const other = standing({ metadata: { 'deltawatch.hub-region': 'gz' } })
    assert.match(reasons(wanted({ hubRegion: 'sz' }), other, defaults), /is gz, not sz/)
    assert.equal(planStream(wanted({ hubRegion: 'sz', repair: true }), other, defaults).outcome, 'updated')
    assert.equal(planStream(wanted(), other, defaults).outcome, 'unchanged')
  })
})

describe('the users of the hub', () => {
  const options = {
    agents: [[cluster, id('sz-edge-2')], [id('gz-edge-1')]],
    auth: 'password',
    operator: false,
  } as const

  test("an agent publishes the protocol's list and nothing else, for every log it serves", () => {
    const [first, second, gateway] = hubUsers(options)
    assert.deepEqual(first?.publish, [...agentPublishSubjects(cluster), ...agentPublishSubjects(id('sz-edge-2'))])
    assert.deepEqual(second?.subscribe, ['dw.mark.gz-edge-1', '_INBOX_dw_gz-edge-1.>'])
    assert.deepEqual(
      gateway?.publish.filter((subject) => subject.startsWith('dw.')),
      ['sz-edge-1', 'sz-edge-2', 'gz-edge-1'].map((one) => `dw.decision.${one}`),
    )
  })

  test('P1: where policy comes from a bucket, agents and gateways may read it and no more', () => {
    const added = ['$JS.API.STREAM.INFO.KV_rules', '$JS.API.STREAM.MSG.GET.KV_rules']
    const before = hubUsers(options)
    const users = hubUsers({ ...options, policies: 'rules' })
    for (const [i, user] of users.entries())
      assert.deepEqual(
        user.publish.filter((subject) => !before[i]?.publish.includes(subject)),
        added,
      )
  })

  test('the operator makes, reads and purges streams; it deletes none, appends nothing and hears only its replies', () => {
    const operator = hubUsers({ ...options, operator: true }).at(-1)
    assert.deepEqual(
      operator?.publish.filter((subject) => subject.endsWith('DW_gz-edge-1')),
      ['INFO', 'CREATE', 'UPDATE', 'MSG.GET', 'PURGE'].map((verb) => `$JS.API.STREAM.${verb}.DW_gz-edge-1`),
    )
    assert.ok(!operator?.publish.some((subject) => /DELETE|CONSUMER|^dw\./.test(subject)))
    assert.deepEqual(operator?.subscribe, ['_INBOX_dw-operator.>'])
  })

  test('no subject is a wildcard over clusters, and no secret is in the snippet', () => {
    for (const user of hubUsers({ ...options, operator: true, revocations: 'revoked' })) {
      for (const subject of [...user.publish, ...user.subscribe]) {
        assert.match(subject, /^[^*>]*(sz-edge-1|sz-edge-2|gz-edge-1|_INBOX_dw\S+|KV_revoked)|^\$JS\.API\.INFO$/)
      }
    }
    const secrets = permissionsText(options).match(/password: \S+/g)
    assert.deepEqual(secrets, [
      'password: $DW_AGENT_SZ_EDGE_1',
      'password: $DW_AGENT_GZ_EDGE_1',
      'password: $DW_GATEWAY',
    ])
    assert.match(permissionsText({ ...options, auth: 'nkey' }), /nkey: \$DW_GATEWAY/)
  })

  test("a cluster whose inbox would be the gateway's, or that is named twice, is refused", () => {
    assert.throws(() => hubUsers({ ...options, agents: [[id('gateway')]] }), /give it another id/)
    assert.throws(() => hubUsers({ ...options, agents: [[cluster], [cluster]] }), /twice/)
  })
})

test('wrong options are named with what to write, exit code 2', async () => {
  const run = async (...args: readonly string[]): Promise<string> => {
    let [err, code] = ['', -1]
    const program = new Command()
    const terminal = { isTTY: true, columns: 80, out: () => undefined }
    registerHubCommands(program, { ...terminal, err: (text) => void (err += text), code: (n) => void (code = n) })
    await program.parseAsync(['hub', ...args], { from: 'user' })
    assert.equal(code, 2)
    return err
  }
  assert.match(await run('permissions', '--clusters', 'SZ_1'), /"SZ_1" is no cluster id/)
  assert.match(await run('apply', '--nats', 'nats://u:secret@h:1', '--clusters', 'a'), /nats:\/\/host:port/)
  assert.doesNotMatch(await run('apply', '--nats', 'nats://u:secret@h:1', '--clusters', 'a'), /secret/)
  const file = await run('apply', '--nats', 'nats://h:1', '--clusters', 'a', '--password-file', '/nonexistent')
  assert.match(file, /--password-file \/nonexistent cannot be read/)
})

test('metadata is asked for only where the server keeps it, and nothing else is left out', () => {
  assert.deepEqual(['2.9.25', '2.10.0', 'v2.15.2', '3.0.0', 'unknown'].map(keepsMetadata), [
    false,
    true,
    true,
    true,
    false,
  ])
  const plain = streamConfig({ cluster, maxBytes: 1, maxMessageBytes: 1, replicas: 1 })
  const stated = streamConfig({ cluster, maxBytes: 1, maxMessageBytes: 1, replicas: 1, hubRegion: 'sz' })
  assert.deepEqual(configFor('2.9.10', stated), plain)
  assert.equal(configFor('2.10.0', stated), stated)
  assert.equal(configFor('2.9.10', plain), plain)
})

test('a table keeps within the terminal and loses no word', () => {
  const text = 'a sentence of some length that has to be wrapped somewhere'
  const lines = table(
    [
      ['A', 'B', ''],
      ['one', 'two', text],
    ],
    40,
  )
    .trimEnd()
    .split('\n')
  assert.ok(lines.every((line) => line.length <= 40))
  assert.equal(
    lines
      .slice(1)
      .map((line) => line.replace(/^one {2}two/, '').trim())
      .join(' '),
    text,
  )
})
