// The build plugin that replaces etcd3's reading of .proto files: it works on the real package and refuses any other shape.

import assert from 'node:assert/strict'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { test } from 'node:test'
import { build } from 'esbuild'
import { embedEtcdProtos } from '#deploy/executable/embed-protos.ts'
import { scratchDir } from '../../support/process.ts'
import { ROOT } from '../../support/source-tree.ts'

async function bundle(dir: string, entry: string): Promise<string> {
  const result = await build({
    absWorkingDir: dir,
    stdin: { contents: entry, resolveDir: dir },
    bundle: true,
    platform: 'node',
    format: 'esm',
    write: false,
    metafile: true,
    logLevel: 'silent',
    plugins: [embedEtcdProtos],
  })
  return result.outputFiles[0]?.text ?? ''
}

/** A package named etcd3 whose `lib/<file>` is given. */
async function fake(dir: string, file: string, source: string): Promise<void> {
  const path = join(dir, 'node_modules', 'etcd3', 'lib', file)
  await mkdir(dirname(path), { recursive: true })
  await writeFile(
    join(dir, 'node_modules', 'etcd3', 'package.json'),
    JSON.stringify({ name: 'etcd3', main: `lib/${file}` }),
  )
  await writeFile(path, source)
}

test('the definitions are inside and no file is read', async () => {
  const text = await bundle(ROOT, "import { Etcd3 } from 'etcd3'; console.log(Etcd3)")
  assert.match(text, /fromJSON\)\(\{.*"WatchCreateRequest"/)
  assert.ok(text.includes('"range_end"'), 'field names are kept as etcd writes them')
  assert.doesNotMatch(text, /loadSync\)\(`/)
})

test('a program without etcd3 is left alone', async () => {
  assert.match(await bundle(ROOT, 'console.log(1)'), /console\.log\(1\)/)
})

test('an etcd3 that loads its definitions in another way fails the build', async () => {
  await using scratch = await scratchDir('embed')
  await fake(scratch.path, 'connection-pool.js', 'exports.services = require("fs").readFileSync("rpc.proto")')
  await assert.rejects(bundle(scratch.path, "import 'etcd3'"), /does not load rpc\.proto as expected/)
})

test('an etcd3 that moved its files fails the build', async () => {
  await using scratch = await scratchDir('embed')
  const source = await readFile(join(ROOT, 'node_modules', 'etcd3', 'lib', 'connection-pool.js'), 'utf8')
  await fake(scratch.path, 'pool.js', `exports.text = ${JSON.stringify(source.length)}`)
  await assert.rejects(bundle(scratch.path, "import 'etcd3'"), /adapted 0 times instead of 1/)
})
