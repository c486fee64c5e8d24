// protocol/ loads and works where there is no platform: a bare realm here, and k6 itself.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { createContext, Script } from 'node:vm'
import { build } from 'esbuild'
import { scratchDir } from '../../support/process.ts'

const root = fileURLToPath(new URL('../../../', import.meta.url))
const run = promisify(execFile)

/** Every source file of protocol/ that runs on a subscriber's side or in a service; the schemas are plain data. */
const sources = async (): Promise<string[]> => {
  const names = await readdir(join(root, 'protocol'), { recursive: true })
  return names.filter((name) => name.endsWith('.ts')).toSorted()
}

/** Exercises each part once and returns what it saw; runs in the realm under test, so it may use nothing of ours. */
const exercise = `
  const key = bytes.keyFromText('/k/é')
  const entry = {
    entryId: '1'.repeat(32), prevEntryId: '0'.repeat(32), epoch: '2'.repeat(16), agentId: 'a', configHash: '', policyRevision: '',
    newestCompleteBeginSeq: 7, pending: 'none', base: { seq: 1, entryId: '1'.repeat(32), revision: '9007199254740993' },
    residenceUs: 5, atMs: 1, kind: 'events', prevRevision: '0', throughRevision: '9007199254740993',
    revisions: [{ revision: '9007199254740993', events: [
      { op: 'put', key, value: new Uint8Array([0, 255]), createRevision: '1', version: '18446744073709551615', lease: '0' }] }],
  }
  const decoded = decode_.decodeEntry(encode_.encodeEntry(entry))
  const positions = new Map([['sz-edge-1', { epoch: '2'.repeat(16), revision: '9007199254740993' }]])
  const text = cursor.encodeCursor({ viewTag: '3'.repeat(16), positions })
  const folded = new fold.CursorFold(text)
  folded.apply({ type: 'events', ch: 1, cluster: 'sz-edge-1', epoch: '2'.repeat(16), revision: '9007199254740995', events: [] })
  const report = JSON.stringify({
    entry: decoded.ok && decoded.value.revisions[0].events[0].version,
    key: bytes.keyToText(decoded.ok ? decoded.value.revisions[0].events[0].key : ''),
    cursor: text,
    folded: folded.position('sz-edge-1').revision,
    frame: decode.decodeClientFrame('{"type":"watch","id":"w","prefix":"/","start":"now"}').ok,
    refused: decode.decodeClientFrame('{').ok,
    void: chain.advance(chain.CHAIN_START, 1, { ...entry, prevEntryId: '4'.repeat(32) }).kind,
    retry: codes.retryFor(4201),
  })
`
const expected = {
  entry: '18446744073709551615',
  key: '/k/é',
  cursor: 'dw1.MzMzMzMzMzMBCXN6LWVkZ2UtMSIiIiIiIiIiACAAAAAAAAHm7oXD',
  folded: '9007199254740995',
  frame: true,
  refused: false,
  void: 'void',
  retry: 'now',
}
const names = {
  bytes: 'bytes.ts',
  codes: 'codes.ts',
  cursor: 'cursor.ts',
  decode: 'decode.ts',
  fold: 'fold.ts',
  chain: 'log/chain.ts',
  decode_: 'log/decode.ts',
  encode_: 'log/encode.ts',
}

describe('portability', () => {
  it('T4: protocol/ needs nothing but ECMAScript and TextEncoder', async () => {
    const all = await sources()
    const everything = all.map((name, i) => `import * as m${i} from './protocol/${name}'`).join('\n')
    const parts = Object.entries(names).map(([name, file]) => `import * as ${name} from './protocol/${file}'`)
    const result = await build({
      stdin: {
        contents: `${everything}\n${parts.join('\n')}\n${exercise}\nglobalThis.report = report\nglobalThis.loaded = [${all.map((_, i) => `m${i}`).join()}].length`,
        resolveDir: root,
      },
      bundle: true,
      write: false,
      format: 'iife',
      platform: 'neutral',
      metafile: true,
      logLevel: 'silent',
    })
    for (const [file, { imports }] of Object.entries(result.metafile.inputs)) {
      if (file !== '<stdin>') assert.match(file, /^protocol\//)
      for (const found of imports) {
        assert.equal(found.external ?? false, false, `${file} imports ${found.path}`)
        if (file !== '<stdin>') assert.match(found.original ?? '', /^\.\.?\/.*\.ts$/)
      }
    }
    // A fresh realm has the language itself and not one platform global; TextEncoder (and the arrays it makes) is lent to it.
    const context = createContext({ TextEncoder, Uint8Array }, { codeGeneration: { strings: false, wasm: false } })
    new Script(result.outputFiles[0]?.text ?? '').runInContext(context, { timeout: 5000 })
    assert.deepEqual(JSON.parse(context.report as string), expected)
    assert.equal(context.loaded, all.length)
  })

  // Unit tests build no tools: without k6 this one says so, and the k6 smoke run proves the same.
  const k6Here = join(root, '.deltawatch', 'toolchain', 'bin', 'k6')
  const absent = !existsSync(k6Here) && 'k6 is not built yet: npm run toolchain -- --only k6'
  it('T4: k6 loads the very same files', { skip: absent }, async () => {
    await using scratch = await scratchDir('k6-protocol')
    const imports = Object.entries(names).map(
      ([name, file]) => `import * as ${name} from '${join(root, 'protocol', file)}'`,
    )
    const script = join(scratch.path, 'protocol.ts')
    const main = `export default function () {\n${exercise}\nconsole.log('REPORT ' + report)\n}`
    await writeFile(script, `${imports.join('\n')}\nexport const options = { iterations: 1 }\n${main}\n`)
    const args = ['run', '--quiet', '--no-usage-report', '--log-format', 'raw', script]
    const { stdout, stderr } = await run(k6Here, args, { timeout: 60_000 })
    const line = `${stdout}\n${stderr}`.split('\n').find((text) => text.startsWith('REPORT '))
    assert.deepEqual(JSON.parse(line?.slice('REPORT '.length) ?? 'null'), expected)
  })
})
