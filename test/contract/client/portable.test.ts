// The client loads and works where there is no Node: a bare realm that has the web's own names and nothing else.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createContext, Script } from 'node:vm'
import { build } from 'esbuild'
import { readSourceTree } from '../../support/source-tree.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))

/** Everything of a platform that the client may name. Browsers, their workers, Node, Deno and Bun all have it. */
const WEB = {
  AbortController,
  AbortSignal,
  TextDecoder,
  TextEncoder,
  URL,
  Uint8Array,
  WebSocket,
  atob,
  clearTimeout,
  performance,
  queueMicrotask,
  setTimeout,
} as const
/** Names of Node, of browsers alone, or of one runtime. A local variable may be called so; a free name may not. */
const FOREIGN =
  /(?<![.\w$'"`#])(process|Buffer|require|__dirname|__filename|setImmediate|global|window|document|localStorage|navigator|Deno|Bun)\b(?!['"`:?])/

describe('the client', () => {
  it('names nothing of Node, and imports nothing but itself and protocol/', async () => {
    const files = (await readSourceTree()).filter(
      ({ path }) => path.startsWith('client/') && !path.startsWith('client/cli/'),
    )
    assert.ok(files.length > 20, 'the sources were found')
    for (const { path, code, imports } of files) {
      const foreign = FOREIGN.exec(code)
      assert.equal(foreign?.[1], undefined, path)
      for (const { specifier, path: to } of imports) {
        assert.match(specifier, /^\.\.?\/.*\.ts$/, path)
        assert.match(to ?? '', /^(client|protocol)\//, path)
        assert.doesNotMatch(to ?? '', /^client\/cli\//, path)
      }
    }
  })

  it('connects, folds and resumes in a realm that has the web standards it names and nothing else', async () => {
    const { outputFiles } = await build({
      stdin: { contents: IMPORT + EXERCISE, resolveDir: root },
      bundle: true,
      write: false,
      format: 'iife',
      platform: 'neutral',
      logLevel: 'silent',
    })
    const { promise: done, resolve } = Promise.withResolvers<string>()
    const context = createContext({ ...WEB, report: resolve }, { codeGeneration: { strings: false, wasm: false } })
    new Script(outputFiles[0]?.text ?? '').runInContext(context, { timeout: 5_000 })
    assert.deepEqual(JSON.parse(await done), {
      sent: ['hello', 'watch', 'unwatch'],
      kinds: ['snapshot', 'events'],
      key: 'é',
      value: 'ü',
      state: { '/a': '1' },
      closed: 'closed',
    })
  })
})

const IMPORT = "import { DeltaWatch, valueText } from './client/deltawatch.ts'"

/** Runs in the realm under test, so it may use nothing but what the client itself may use. */
const EXERCISE = `
const EPOCH = '00000000000000aa'
const sent = []
class Socket {
  readyState = 0
  listeners = {}
  constructor() { queueMicrotask(() => { this.readyState = 1; this.say('open', {}) }) }
  addEventListener(type, fn) { this.listeners[type] = fn }
  say(type, event) { this.listeners[type]?.(event) }
  frame(frame) { this.say('message', { data: JSON.stringify(frame) }) }
  close() {}
  send(text) {
    const frame = JSON.parse(text)
    if (!sent.includes(frame.type)) sent.push(frame.type)
    if (frame.type === 'hello') this.frame({ type: 'welcome', version: 1, session: 's', heartbeatMs: 15000, limits: {}, clusters: {} })
    if (frame.type !== 'watch') return
    const ch = frame.prefix === '/' ? 1 : 2
    const of = { ch, cluster: 'sz-edge-1', epoch: EPOCH }
    this.frame({ type: 'watching', id: frame.id, ch, clusters: { 'sz-edge-1': { outcome: 'snapshot' } } })
    this.frame({ type: 'snapshot', ...of, phase: 'begin', base: 'full', revision: '7' })
    this.frame({ type: 'snapshot', ...of, phase: 'items', items: [{ key: '/a', text: '1', revision: '7' }] })
    this.frame({ type: 'snapshot', ...of, phase: 'end', revision: '7' })
    if (ch === 1) this.frame({ type: 'events', ...of, revision: '8', events: [{ op: 'put', keyBase64: '6Q==', base64: 'w7w=' }] })
  }
}

async function run() {
  const dw = new DeltaWatch({ url: 'https://gateway.example', WebSocket: Socket, token: () => 'a.b.c' })
  const changes = []
  for await (const change of dw.watch({ prefix: '/' })) {
    changes.push(change)
    if (change.kind === 'events') break
  }
  const live = dw.state({ prefix: '/live/' })
  await live.ready
  const state = Object.fromEntries([...live.entries()].map((entry) => [entry.key, valueText(entry)]))
  const [event] = changes.at(-1).events
  await dw.close()
  return { sent, kinds: changes.map(({ kind }) => kind), key: event.key, value: valueText(event), state, closed: dw.connection.phase }
}
run().then((seen) => report(JSON.stringify(seen)), (error) => report(JSON.stringify(String(error.stack))))
`
