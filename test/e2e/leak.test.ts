// A thousand known persons written into a region in every way a store holds them, while bundles change, a checkpoint is written and
// the agent is killed. Afterwards every byte downstream is searched: frames of every class and transport, every log line, metrics,
// status and admin pages, spans, the decision log, and the files of the hub. What must be found is searched for with the same scanner.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, describe, it } from 'node:test'
import { jetstreamManager } from '@nats-io/jetstream'
import { WebSocket } from 'ws'
import { decodeEntry } from '#protocol/log/decode.ts'
import { EtcdHttp, type WriteOp } from '../judge/etcd-http.ts'
import { readLog } from '../judge/log-reader.ts'
import { Collector } from '../support/collector.ts'
import { LeakScanner } from '../support/leak-scan.ts'
import { planted } from '../support/planted-data.ts'
import { reservePort } from '../support/ports.ts'
import { scratchDir } from '../support/process.ts'
import { document, oversized, plantingsOf } from './leak-places.ts'
import { CLUSTER, eventually, PolicyStack } from './policy-stack.ts'
import { Recorder } from './recorder.ts'

const DENIED = planted(0, 700)
const HOME = planted(1, 150)
const LATER = planted(2, 150)
const ALL = [...DENIED, ...HOME, ...LATER]
const STREAM = `DW_${CLUSTER}`

describe('personal data stays where policy keeps it', () => {
  const owned = new AsyncDisposableStack()
  const scanner = {
    denied: new LeakScanner(DENIED),
    home: new LeakScanner(HOME),
    later: new LeakScanner(LATER),
    all: new LeakScanner(ALL),
  }
  const seen = new Map<string, Recorder>()
  const read: Record<string, string> = { sse: '', cloudevents: '', decisions: '' }
  let stack: PolicyStack
  let etcd: EtcdHttp
  let collector: Collector
  let admin: string
  let storedBefore = ''
  let last = 0

  const write = async (transactions: readonly (readonly WriteOp[])[]): Promise<void> => {
    for (const ops of transactions) last = (await etcd.write(ops)).revision
  }
  const stored = async (): Promise<string> => {
    const dir = stack.stack.nats.dataDir
    const files = await readdir(dir, { recursive: true, withFileTypes: true })
    const kept = files.filter((file) => file.isFile() && !file.parentPath.includes('KV_'))
    return (
      await Promise.all(kept.map((file) => readFile(join(file.parentPath, file.name), 'latin1').catch(() => '')))
    ).join('\n')
  }
  const clean = (where: string, data: string | Uint8Array, ...which: LeakScanner[]): void => {
    for (const one of which) assert.deepEqual(one.scan(where, data).slice(0, 5), [], where)
  }

  before(async () => {
    const { path } = owned.use(await scratchDir('leak'))
    await mkdir(join(path, 'keys'))
    await writeFile(join(path, 'keys', 'users-v1'), randomBytes(32))
    await writeFile(join(path, 'admin-token'), 'operator-token-of-this-test\n', { mode: 0o600 })
    collector = owned.use(await Collector.start())
    for (const name of ['agent', 'gateway'])
      await writeFile(join(path, `${name}.yaml`), `tracing:\n  endpoint: ${collector.url}\n  sample: 1\n`)
    const { port } = owned.use(await reservePort())
    admin = `http://127.0.0.1:${port}`
    const common = ['--log-level', 'debug', '--decisions-share', '1']
    stack = owned.use(
      await PolicyStack.start({
        bundles: { live: document({ later: true }) },
        agentFlags: [...common, '--config', join(path, 'agent.yaml'), '--policy-keys', join(path, 'keys')],
        gatewayFlags: [
          ...common,
          '--config',
          join(path, 'gateway.yaml'),
          '--admin',
          `127.0.0.1:${port}`,
          '--admin-token-file',
          join(path, 'admin-token'),
          '--decisions-file',
          join(path, 'decisions.jsonl'),
        ],
      }),
    )
    stack.nc.subscribe(`dw.decision.${CLUSTER}`, { callback: (_e, m) => void (read['decisions'] += `${m.string()}\n`) })
    owned.defer(async () => void (read['decisions'] += await readFile(join(path, 'decisions.jsonl'), 'latin1')))
    etcd = owned.use(new EtcdHttp(stack.stack.first.etcd.directUrl))
    for (const region of ['sz', 'hk', 'mo'])
      for (const values of ['auto', 'base64'] as const)
        seen.set(
          `${region} ${values}`,
          owned.use(
            new Recorder(stack.stack.url, { prefix: '/', start: 'snapshot', values }, { token: `dev:r:${region}` }),
          ),
        )
    seen.set('anonymous', owned.use(new Recorder(stack.stack.url, { prefix: '/', start: 'snapshot' })))
    await seen.get('sz auto')?.change((c) => c.kind === 'snapshot')
    follow(owned)

    // Written in quarters: in peace, across bundles that change, across a checkpoint, across a kill -9.
    const quarter = (i: number): readonly string[] => DENIED.slice(i * 175, (i + 1) * 175)
    await write(HOME.map((text, i) => [{ op: 'put', key: `/home/${i}`, value: Buffer.from(JSON.stringify({ text })) }]))
    await write(
      LATER.map((text, i) => [{ op: 'put', key: `/later/${i}`, value: Buffer.from(JSON.stringify({ text })) }]),
    )
    await write([...plantingsOf(quarter(0), 0), ...oversized(DENIED)])
    const writing = write(plantingsOf(quarter(1), 175))
    for (const extra of ['x1', 'x2', 'x3']) await stack.publish(document({ later: true, extra }))
    await writing
    await seen.get('sz auto')?.reached(CLUSTER, last)
    storedBefore = await stored()
    // The hub's file store erases nothing that is in memory only; what stands there now is what was allowed.
    await Promise.all([stack.publish(document({ later: false })), write(plantingsOf(quarter(2), 350))])
    const restarting = write(plantingsOf(quarter(3), 525))
    await stack.stack.first.agent?.kill()
    await stack.stack.first.agent?.restart()
    await restarting
    for (const [name, recorder] of seen) if (!name.startsWith('mo')) await recorder.reached(CLUSTER, last)
  })
  after(() => owned.disposeAsync())

  /** The transports of those who only read. */
  function follow(stops: AsyncDisposableStack): void {
    const stop = new AbortController()
    stops.defer(() => stop.abort())
    const headers = { authorization: 'Bearer dev:r:hk' }
    const sse = async (): Promise<void> => {
      const answer = await fetch(`${stack.stack.httpUrl}/v1/events?cluster=${CLUSTER}&prefix=/`, {
        headers,
        signal: stop.signal,
      })
      for await (const bytes of answer.body ?? []) read['sse'] += Buffer.from(bytes as Uint8Array).toString('latin1')
    }
    void sse().catch(() => undefined)
    const socket = new WebSocket(`${stack.stack.url}?prefix=/`, ['cloudevents.json'], { headers })
    socket.on('message', (data: Buffer) => void (read['cloudevents'] += data.toString('latin1')))
    socket.on('error', () => undefined)
    stops.defer(() => socket.terminate())
  }

  it('the source holds every one of them, and the scanner finds them there', async () => {
    const dir = stack.stack.first.etcd.dataDir
    const files = await readdir(dir, { recursive: true, withFileTypes: true })
    const bytes = await Promise.all(files.filter((f) => f.isFile()).map((f) => readFile(join(f.parentPath, f.name))))
    assert.equal(scanner.all.count(Buffer.concat(bytes)), ALL.length)
  })

  it('I6: no frame of any class holds what is denied, and the home class sees all of its own', () => {
    for (const [name, recorder] of seen) {
      const text = recorder.transcript.texts.join('\n')
      clean(name, text, scanner.denied)
      // An anonymous reader of this gateway is taken to be in its region.
      const home = name.startsWith('sz') || name === 'anonymous'
      assert.equal(scanner.home.count(text), home ? HOME.length : 0, name)
      if (!name.startsWith('mo')) assert.equal(scanner.later.count(text), LATER.length, name)
    }
    assert.match(seen.get('hk auto')?.transcript.texts.join('') ?? '', /\*\*\*/)
  })

  it('I6: server-sent events, CloudEvents and state pages hold none either', async () => {
    const headers = { authorization: 'Bearer dev:r:hk' }
    let page = `${stack.stack.httpUrl}/v1/state?cluster=${CLUSTER}&prefix=/`
    const answer = await fetch(page, { headers })
    page = await answer.text()
    for (const [where, data] of [
      ['state', page],
      ['sse', read['sse']],
      ['cloudevents', read['cloudevents']],
    ] as const) {
      assert.ok((data?.length ?? 0) > 10_000, `${where}: ${data?.length} bytes`)
      clean(where, data ?? '', scanner.denied, scanner.home)
    }
  })

  it('I6: the files of the hub hold nothing denied, and after a purge nothing that was narrowed away', async () => {
    assert.equal(scanner.home.count(Buffer.from(storedBefore, 'latin1')), HOME.length)
    assert.equal(scanner.later.count(Buffer.from(storedBefore, 'latin1')), LATER.length)
    clean('hub before', Buffer.from(storedBefore, 'latin1'), scanner.denied)
    const entries = (await readLog(stack.stack.nats.directUrl, CLUSTER)).map((m) => ({
      seq: m.seq,
      entry: decodeEntry(m.data),
    }))
    const begins = entries.filter(
      ({ entry }) => entry.ok && entry.value.kind === 'snapshot-begin' && entry.value.reason === 'policy',
    )
    const seq = begins.at(-1)?.seq ?? 0
    assert.ok(seq > 0, 'the narrowing bundle made a checkpoint')
    const manager = await jetstreamManager(stack.nc)
    // Purging up to the checkpoint would leave the bytes in the file that holds it; purging all removes the files, and
    // the agent begins anew with what may be there now.
    await manager.streams.purge(STREAM)
    const sz = seen.get('sz auto')
    const left = sz?.epoch(CLUSTER)
    await stack.stack.first.agent?.restart()
    await sz?.reached(CLUSTER, last, 20_000, left)
    const afterwards = Buffer.from(await stored(), 'latin1')
    clean('hub after the purge', afterwards, scanner.denied, scanner.later)
    assert.equal(scanner.home.count(afterwards), HOME.length)
  })

  it('I10: no log line, metric, status, admin page or span holds any of them', async () => {
    const token = { authorization: 'Bearer operator-token-of-this-test' }
    const listings = await Promise.all(
      ['/admin/sessions', '/admin/clusters'].map(async (path) =>
        (await fetch(admin + path, { headers: token })).text(),
      ),
    )
    assert.match(listings[0] ?? '', /"subject"/)
    await eventually(async () => String(collector.spans.length), /[1-9]/)
    const told: Record<string, string> = {
      'gateway log': stack.stack.gateway?.log() ?? '',
      'agent log': stack.stack.first.agent?.log() ?? '',
      'nats log': stack.stack.nats.log(),
      'agent metrics': await stack.agentText('/metrics'),
      'agent status': await stack.agentText('/debug/status'),
      'agent health': await stack.agentText('/readyz?verbose'),
      'gateway metrics': await (await fetch(`${admin}/metrics`)).text(),
      'gateway health': await (await fetch(`${admin}/readyz?verbose`)).text(),
      'admin listings': listings.join('\n'),
      spans: JSON.stringify(collector.spans, (_name, value: unknown) =>
        typeof value === 'bigint' ? String(value) : value,
      ),
    }
    for (const [where, text] of Object.entries(told)) {
      assert.ok(text.length > 50, `${where} is empty`)
      clean(where, text, scanner.all)
    }
    assert.equal(await stack.gatewayText('/readyz?verbose'), 'ok\n', 'beside an admin listener nothing is told')
    for (const part of [stack.stack.gateway, stack.stack.first.agent])
      assert.ok((part?.process.lineCount() ?? 0) <= 5_000, 'the whole log was kept')
  })

  it('the decision log holds none, and says how many were kept back', () => {
    clean('decisions', read['decisions'] ?? '', scanner.all)
    const denied = (read['decisions'] ?? '').split('\n').filter((line) => line.includes('"effect":"deny"'))
    assert.ok(denied.length > 150, `${denied.length} denials`)
  })
})
