// The command line against a gateway over real WebSockets: what it prints where, and how it exits.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { describe, it } from 'node:test'
import { runCommandLine } from '#client/cli/program.ts'
import type { Terminal } from '#client/cli/terminal.ts'
import type { Change } from '#client/deltawatch.ts'
import { FakeGateway } from '#test/support/fake-gateway.ts'
import { ReferenceCluster } from '#test/support/reference-cluster.ts'

const put = (key: string, value: string) => ({ op: 'put', key, value }) as const

function cluster(name = 'sz-edge-1'): ReferenceCluster {
  const made = new ReferenceCluster(name)
  made.write([put('/config/a', '{"n":1}'), put('/config/b', 'two')])
  return made
}

type Ran = { readonly exit: number; readonly out: string; readonly err: string }
type Running = { readonly done: Promise<Ran>; stop(): void; shows(pattern: RegExp): Promise<void> }

/** Starts a command line on a terminal of 100 columns, or in a pipe. */
function start(
  args: readonly string[],
  options: { readonly tty?: boolean; readonly env?: Terminal['env']; readonly files?: Record<string, string> } = {},
): Running {
  const stop = new AbortController()
  let out = ''
  let err = ''
  let wake = (): void => undefined
  const output = (take: (text: string) => void) => ({
    isTTY: options.tty === true,
    columns: 100,
    write: (text: string | Uint8Array): Promise<void> => {
      take(typeof text === 'string' ? text : new TextDecoder().decode(text))
      wake()
      return Promise.resolve()
    },
  })
  const io: Terminal = {
    env: options.env ?? {},
    out: output((text) => {
      out += text
    }),
    err: output((text) => {
      err += text
    }),
    stop: stop.signal,
    colour: false,
    readFile: (path) => {
      const text = options.files?.[path]
      if (text === undefined) throw new Error(`${path}: no such file`)
      return text
    },
    writeFile: () => assert.fail('nothing is written'),
  }
  const done = runCommandLine(args, io).then((exit) => ({ exit, out, err }))
  return {
    done,
    stop: () => stop.abort(),
    shows: async (pattern) => {
      while (!pattern.test(out + err)) {
        await new Promise<void>((resolve) => {
          wake = resolve
        })
      }
    },
  }
}
const run = (...args: Parameters<typeof start>): Promise<Ran> => start(...args).done
const lines = (text: string): Change[] =>
  text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Change)

describe('deltawatch tail', () => {
  it('in a pipe: one JSON line per change, data alone on stdout, and a cursor to go on from', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const running = start(['tail', '--url', fake.url, '--prefix', '/config/', '--from', 'snapshot', '--show-bookmarks'])
    await running.shows(/"snapshot"/)
    fake.bookmark()
    await running.shows(/"bookmark"/)
    const revision = sz.write([put('/config/a', '{"n":2}'), { op: 'delete', key: '/config/b' }])
    fake.pump()
    await running.shows(/"events"/)
    running.stop()
    const { exit, out, err } = await running.done
    assert.equal(exit, 130)
    assert.deepEqual(
      lines(out).map(({ kind }) => kind),
      ['snapshot', 'bookmark', 'events'],
    )
    const cursor = /--from (dw1\.\S+)/.exec(err)?.[1]
    assert.ok(cursor !== undefined, err)

    // What happens meanwhile is what the next run begins with.
    const missed = sz.write([put('/config/c', 'three')])
    assert.ok(missed > revision)
    const next = await run(['tail', '--url', fake.url, '--prefix', '/config/', '--from', cursor, '--limit', '1'])
    assert.equal(next.exit, 0)
    const [first] = lines(next.out)
    assert.ok(first?.kind === 'events' && first.revision === String(missed))
  })

  it('on a terminal: a row per key, a transaction under one revision, nothing that a value could smuggle in', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const args = ['tail', '--url', fake.url, '--from', 'snapshot', '--limit', '2']
    const running = start(args, { tty: true })
    await running.shows(/full snapshot at revision 11: 2 keys/)
    sz.write([put('/config/a', '\x1b[2Jgone'), put('/config/b', 'x'.repeat(300))])
    fake.pump()
    const { out } = await running.done
    const rows = out.split('\n')
    assert.match(rows[1] ?? '', /^sz-edge-1 +11 {2}is +\/config\/a {2}\{"n":1\}$/)
    assert.match(rows[3] ?? '', /^sz-edge-1 +12 {2}put +\/config\/a {2}\\x1b\[2Jgone$/)
    assert.match(rows[4] ?? '', /^ +put +\/config\/b {2}x+…$/)
    assert.ok(rows.every((row) => row.length <= 100))
    assert.equal(out.includes('\x1b'), false)
  })

  it('says when the connection is lost and found again, and goes on without a gap', async () => {
    const sz = cluster()
    await using fake = await FakeGateway.start(sz)
    const running = start(['tail', '--url', fake.url, '--from', 'snapshot', '--show-bookmarks', '--limit', '2'])
    await running.shows(/"snapshot"/)
    fake.bookmark()
    await running.shows(/"bookmark"/)
    sz.write([put('/config/a', 'while away')])
    fake.drop()
    const { exit, out, err } = await running.done
    assert.equal(exit, 0)
    assert.deepEqual(
      lines(out).map(({ kind }) => kind),
      ['snapshot', 'bookmark', 'events'],
    )
    assert.match(err, /connection lost \(code 1006\); connecting again, the stream goes on where it was/)
    assert.match(err, /connected again/)
  })

  it('follows only the clusters and the key that were named, and leaves values out when told to', async () => {
    await using fake = await FakeGateway.start(cluster(), cluster('gz-edge-1'))
    const args = [
      'tail',
      '--url',
      fake.url,
      '-c',
      'gz-edge-1',
      '-k',
      '/config/a',
      '--values',
      'none',
      '-f',
      'snapshot',
      '-n',
      '1',
    ]
    const { out } = await run(args)
    const [first] = lines(out)
    assert.ok(first?.kind === 'snapshot' && first.cluster === 'gz-edge-1')
    const watch = fake.received.find((frame) => frame.type === 'watch')
    assert.ok(watch?.type === 'watch' && watch.values === 'none' && watch.key === '/config/a')
  })
})

describe('deltawatch get and status', () => {
  it('get shows entries as JSON lines, as a table, and one value as its bytes', async () => {
    await using fake = await FakeGateway.start(cluster(), cluster('gz-edge-1'))
    const url = ['--url', fake.url]
    const json = await run(['get', '--prefix', '/config/', ...url])
    assert.equal(json.exit, 0)
    assert.equal(json.out.trim().split('\n').length, 4)
    const shown = await run(['get', '/config/b', ...url], { tty: true })
    assert.match(shown.out, /CLUSTER +REVISION +KEY +VALUE\ngz-edge-1 +11 +\/config\/b +two\nsz-edge-1/)
    const raw = await run(['get', '/config/b', '--cluster', 'sz-edge-1', '--raw', ...url])
    assert.equal(raw.out, 'two')
    const several = await run(['get', '/config/b', '--raw', ...url])
    assert.equal(several.exit, 2)
    assert.match(several.err, /2 match \(in gz-edge-1, sz-edge-1\)\n {2}add --cluster/)
    const none = await run(['get', '/config/none', ...url])
    assert.equal(none.exit, 1)
    assert.match(none.err, /no such key, or policy does not let this identity see it/)
  })

  it('get says which cluster is missing, and exits accordingly', async () => {
    const gz = cluster('gz-edge-1')
    gz.ready = false
    await using fake = await FakeGateway.start(cluster(), gz)
    const { exit, out, err } = await run(['get', '/config/a', '--url', fake.url])
    assert.equal(exit, 3)
    assert.equal(out.trim().split('\n').length, 1)
    assert.match(err, /gz-edge-1 is unreachable: nothing is known of it now/)
  })

  it('status is a table of the fleet, JSON on request, and strict on request', async () => {
    const gz = cluster('gz-edge-1')
    gz.ready = false
    await using fake = await FakeGateway.start(cluster(), gz)
    const { exit, out } = await run(['status', '--url', fake.url])
    assert.equal(exit, 0)
    assert.match(
      out,
      /CLUSTER +REGION +STATE +REVISION +PROVED +EPOCH\ngz-edge-1 +gz +unreachable.*\nsz-edge-1 +sz +live +11 /,
    )
    const json = await run(['status', '--url', fake.url, '--json', '--strict'])
    assert.equal(json.exit, 1)
    const fleet = JSON.parse(json.out) as { cluster: string; state: string }[]
    assert.deepEqual(
      fleet.map((one) => `${one.cluster} ${one.state}`),
      ['gz-edge-1 unreachable', 'sz-edge-1 live'],
    )
  })
})

describe('how it fails', () => {
  it('a gateway that is not there: a sentence, what to do next, and 3', async () => {
    let url = ''
    {
      await using gone = await FakeGateway.start()
      url = gone.url
    }
    // At once, not at the time limit.
    const began = performance.now()
    const { exit, out, err } = await run(['status', '--url', url, '--timeout', '60'])
    assert.ok(performance.now() - began < 10_000)
    assert.equal(exit, 3)
    assert.equal(out, '')
    assert.match(err, /^deltawatch: nothing listens at 127\.0\.0\.1:\d+\n {2}is the gateway running there\?/)
  })

  it('something that listens and never welcomes: the time limit, what to do next, and 3', async () => {
    const mute = createServer().listen(0, '127.0.0.1')
    await once(mute, 'listening')
    const { port } = mute.address() as AddressInfo
    const { exit, err } = await run(['status', '--url', `ws://127.0.0.1:${port}`, '--timeout', '0.3'])
    mute.close()
    assert.equal(exit, 3)
    assert.match(err, /^deltawatch: no welcome from ws:.* within 0\.3 s\n {2}is the gateway running there\?/)
  })

  it('tail of a cluster it may not see says so and what it may see', async () => {
    await using fake = await FakeGateway.start(cluster())
    const running = start(['tail', '--cluster', 'nope', '--url', fake.url])
    await running.shows(/deltawatch: nope: no such cluster, or this identity may not see it; it may see sz-edge-1\./)
    running.stop()
    assert.equal((await running.done).exit, 130)
  })

  it('a refused token: 4; the token comes from a file or the environment and is never printed', async () => {
    await using fake = await FakeGateway.start(cluster())
    fake.plans.push(
      { refuse: { code: 4003, reason: 'the token was refused' } },
      { refuse: { code: 4003, reason: 'the token was refused' } },
    )
    const { exit, err } = await run(['status', '--url', fake.url], { env: { DELTAWATCH_TOKEN: 'sesame' } })
    assert.equal(exit, 4)
    assert.match(err, /DW4003.*\n {2}give a valid token: --token-file, or DELTAWATCH_TOKEN/)
    assert.doesNotMatch(err, /sesame/)
    const missing = await run(['status', '--url', fake.url, '--token-file', '/nowhere'])
    assert.equal(missing.exit, 2)
    assert.match(missing.err, /--token-file \/nowhere cannot be read/)
    const file = await run(['status', '--url', fake.url, '--token-file', '/t'], { files: { '/t': 'open\n' } })
    assert.equal(file.exit, 0, file.err)
    const hellos = fake.received.filter((frame) => frame.type === 'hello').map(({ token }) => token)
    assert.deepEqual(hellos, ['sesame', 'open', 'open'])
  })

  const wrong: [string[], RegExp][] = [
    [['tial'], /unknown command 'tial'\n\(Did you mean tail\?\)/],
    [['tail', '--form', 'now'], /unknown option '--form'\n\(Did you mean --from\?\)/],
    [['tail', '--from', 'yesterday'], /--from yesterday: write snapshot, now, or a cursor/],
    [['tail', '--cluster', 'SZ!'], /"SZ!" is no name: write 1 to 32 of a-z, 0-9 and -/],
    [['tail', '--limit', '0'], /write a whole number from 1 on/],
    [['tail', '--prefix', '/a', '--key', '/b'], /cannot be used with option/],
    [['status', '--url', 'nonsense'], /url: "nonsense" is not a URL; write e\.g\. ws:/],
    [['status', '--url', 'ws://me:secret@x'], /url: it holds credentials; use the token option/],
    [['status', '--timeout', 'soon'], /write seconds, such as 10/],
  ]
  for (const [args, message] of wrong) {
    it(`usage: ${args.join(' ')}`, async () => {
      const { exit, out, err } = await run(args)
      assert.equal(exit, 2, err)
      assert.equal(out, '')
      assert.match(err, message)
      assert.doesNotMatch(err, /\n {4}at |secret/)
    })
  }

  it('every command has help with an example', async () => {
    const commands = [['tail'], ['get'], ['status'], ['doctor'], ['hub', 'apply'], ['config', 'check'], ['policy']]
    for (const command of commands) {
      const { exit, out } = await run([...command, '--help'])
      assert.equal(exit, 0)
      assert.match(out, /Examples:\n {2}deltawatch /, command.join(' '))
    }
    const { out } = await run(['--help'])
    for (const [name] of commands) assert.match(out, new RegExp(`^ {2}${name} `, 'm'))
    assert.match(out, /Exit codes:/)
    assert.match((await run(['--version'])).out, /^deltawatch \d+\.\d+\.\d+ \(node \d+\.\d+\.\d+\)\n$/)
  })
})
