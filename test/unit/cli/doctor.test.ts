// The doctor's judgements: versions, clocks, streams, the gateway's own report.

import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Command } from 'commander'
import {
  clockOffset,
  type Finding,
  findingsAt,
  judgeClock,
  judgeEtcdVersion,
  judgeNatsVersion,
  worst,
} from '#client/cli/doctor/finding.ts'
import { registerDoctorCommand } from '#client/cli/doctor.ts'
import { readReport } from '#client/cli/doctor/gateway.ts'
import { judgeStream } from '#client/cli/doctor/hub.ts'
import { streamConfig } from '#protocol/log/stream.ts'
import { parseClusterId } from '#protocol/subjects.ts'

const say = findingsAt('here')
const verdicts = (findings: readonly Finding[]): string[] => findings.map(({ verdict }) => verdict)

test('no finding repeats the user and password somebody wrote into an address', async () => {
  const say = findingsAt('hub nats://u:secretpw@h:4222,nats://v:second@i:4222')
  assert.equal(say.ok('reachable', 'fine').at, 'hub nats://***@h:4222,nats://***@i:4222')
  assert.doesNotMatch(say.fail('reachable', 'GET http://root:hunter2@h:1/version failed', 'look').detail, /hunter2/)
  const ran = { out: '', err: '', code: -1 }
  const program = new Command('deltawatch')
  registerDoctorCommand(program, {
    isTTY: false,
    columns: 100,
    out: (text) => void (ran.out += text),
    err: (text) => void (ran.err += text),
    code: (code) => void (ran.code = code),
  })
  const args = ['--etcd', 'http://root:hunter2@127.0.0.1:9', '--gateway', 'ws://u:secretpw@127.0.0.1:9']
  await program.parseAsync(['doctor', '--json', ...args], { from: 'user' })
  assert.equal(ran.code, 1)
  assert.match(ran.out, /"at": ?"etcd http:\/\/\*\*\*@127\.0\.0\.1:9"/)
  assert.doesNotMatch(ran.out + ran.err, /hunter2|secretpw/)
})

test('versions: supported ranges, and what is newer than was tried', () => {
  const etcd = ['3.4.22', '3.4.23', '3.5.21', '3.7.9', '3.8.0', '4.0.0', 'nonsense']
  assert.deepEqual(verdicts(etcd.map((text) => judgeEtcdVersion(say, text))), [
    'fail',
    'ok',
    'ok',
    'ok',
    'warn',
    'warn',
    'warn',
  ])
  const nats = ['2.9.25', '2.10.0', '2.15.2', 'nonsense']
  assert.deepEqual(verdicts(nats.map((text) => judgeNatsVersion(say, text))), ['warn', 'ok', 'ok', 'fail'])
})

describe('the clock', () => {
  const noon = Date.UTC(2030, 0, 1, 12)
  const answered = (offsetMs: number, roundTripMs = 20) => {
    const askedAt = noon + 400
    // A server's Date is its whole second at some moment between question and answer.
    const theirs = Math.floor((askedAt + roundTripMs / 2 + offsetMs) / 1_000) * 1_000
    return { date: new Date(theirs).toUTCString(), askedAt, answeredAt: askedAt + roundTripMs }
  }

  test('the interval always holds the true offset', () => {
    for (let offset = -5_000; offset <= 5_000; offset += 137) {
      const [least, most] = clockOffset(answered(offset)) ?? assert.fail()
      assert.ok(least <= offset && offset <= most, `${offset} not in ${least}..${most}`)
    }
  })

  test('only what the measurement proves is a fault', () => {
    const judge = (offset: number, roundTrip?: number) => judgeClock(say, answered(offset, roundTrip), 5_000).verdict
    assert.deepEqual(
      [0, 900, -900, 4_000, -4_500, 8_000, -8_000].map((ms) => judge(ms)),
      ['ok', 'ok', 'ok', 'warn', 'warn', 'fail', 'fail'],
    )
    assert.equal(judge(8_000, 20_000), 'ok')
    assert.equal(judgeClock(say, answered(8_000), undefined).verdict, 'warn')
    assert.equal(judgeClock(say, { ...answered(0), date: undefined }, 5_000).verdict, 'warn')
  })
})

test('a stream is right, differs, or is missing a bound; the finding names the command that helps', () => {
  const cluster = parseClusterId('sz-edge-1') ?? assert.fail()
  const config = { ...streamConfig({ cluster, maxBytes: 1024 ** 3, maxMessageBytes: 1024 ** 2, replicas: 1 }) }
  assert.deepEqual(verdicts(judgeStream(say, cluster, config)), ['ok'])
  const [differs] = judgeStream(say, cluster, { ...config, max_age: 5 })
  assert.equal(differs?.verdict, 'fail')
  assert.match(`${differs?.detail} ${differs?.next}`, /max_age is 5.*hub apply/)
  assert.deepEqual(verdicts(judgeStream(say, cluster, { ...config, max_bytes: -1 })), ['warn'])
})

test("the gateway's own lines keep their verdicts", () => {
  const report =
    '[+]nats ok\n[!]cluster sz-edge-1 degraded: unreachable\n[-]policies failed: no bundle\nreadyz check failed\n'
  assert.deepEqual(verdicts(readReport(say, report)), ['ok', 'warn', 'fail'])
  assert.equal(readReport(say, '<html>not ours</html>').length, 0)
})

test('the worst finding decides', () => {
  const [ok, warn, fail] = [say.ok('a', ''), say.warn('b', '', ''), say.fail('c', '', '')]
  assert.deepEqual([worst([]), worst([ok]), worst([warn, ok]), worst([ok, fail, warn])], ['ok', 'ok', 'warn', 'fail'])
})
