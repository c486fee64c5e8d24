// What the client costs an application: its size on the wire, and that it needs nothing but the platform.

import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const LIMIT = 12 * 1024
/** Room for what comes: a feature that uses it up says so here. */
const ROOM = 480
const entry = fileURLToPath(new URL('../../../client/deltawatch.ts', import.meta.url))

async function bundle(code: string): Promise<{ readonly bytes: Uint8Array; readonly inputs: readonly string[] }> {
  const result = await build({
    stdin: { contents: code, resolveDir: fileURLToPath(new URL('.', import.meta.url)) },
    bundle: true,
    minify: true,
    format: 'esm',
    platform: 'browser',
    write: false,
    metafile: true,
    logLevel: 'silent',
  })
  const [file] = result.outputFiles
  assert.ok(file !== undefined)
  return { bytes: file.contents, inputs: Object.keys(result.metafile.inputs) }
}

describe('the client bundle', () => {
  it(`is at most ${LIMIT} bytes gzipped, with everything it exports`, async () => {
    const { bytes, inputs } = await bundle(`export * from ${JSON.stringify(entry)}`)
    const size = gzipSync(bytes, { level: 9 }).length
    assert.ok(size <= LIMIT - ROOM, `${size} bytes gzipped`)
    const foreign = inputs.filter((path) => !/^(client|protocol)\/|<stdin>/.test(path.replace(/^(\.\.\/)+/, '')))
    assert.deepEqual(foreign, [], 'it bundles nothing but client/ and protocol/')
  })

  it('an application that only reads and writes cursors loads the codec and nothing else', async () => {
    const codec = fileURLToPath(new URL('../../../protocol/cursor.ts', import.meta.url))
    const { bytes, inputs } = await bundle(`export { decodeCursor, encodeCursor } from ${JSON.stringify(codec)}`)
    const size = gzipSync(bytes, { level: 9 }).length
    assert.ok(size < 1_300, `the cursor functions cost ${size} bytes`)
    assert.ok(inputs.every((path) => !path.includes('client/')))
  })

  it('leaves out what an application does not import', async () => {
    const used = await bundle(
      `import { valueText } from ${JSON.stringify(entry)}; console.log(valueText({ text: 'x' }))`,
    )
    const size = gzipSync(used.bytes).length
    assert.ok(size < 1024, `valueText alone costs ${size} bytes`)
  })
})
