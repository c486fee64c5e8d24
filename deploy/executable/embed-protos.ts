// etcd3 reads its .proto files from disk when it is loaded; a single executable has no such files.
// Owns: replacing that one call by the same definitions as JSON, at build time, and failing the build if etcd3 changes shape.
// Does not own: anything else of etcd3.

import { readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Plugin } from 'esbuild'
import protobuf from 'protobufjs'

const CALL = /\(0, proto_loader_1\.loadSync\)\(`\$\{__dirname\}\/\.\.\/proto\/rpc\.proto`,/

export const embedEtcdProtos: Plugin = {
  name: 'embed-etcd-protos',
  setup(build) {
    let replaced = 0
    build.onLoad({ filter: /[/\\]etcd3[/\\]lib[/\\]connection-pool\.js$/ }, async ({ path }) => {
      const source = await readFile(path, 'utf8')
      if (!CALL.test(source)) {
        return {
          errors: [{ text: `${path} does not load rpc.proto as expected: adapt deploy/executable/embed-protos.ts` }],
        }
      }
      replaced += 1
      const definitions = await describeProtos(join(dirname(path), '..', 'proto'))
      return { contents: source.replace(CALL, `(0, proto_loader_1.fromJSON)(${definitions},`), loader: 'js' }
    })
    build.onEnd(({ errors, metafile }) => {
      const uses = Object.keys(metafile?.inputs ?? {}).some((path) => /(^|[/\\])node_modules[/\\]etcd3[/\\]/.test(path))
      // Left as it is, the program would fail on the first machine without node_modules.
      if (errors.length === 0 && replaced !== (uses ? 1 : 0)) {
        throw new Error(
          `etcd3 was adapted ${replaced} times instead of ${uses ? 1 : 0}: it moved its files or is there twice`,
        )
      }
    })
  },
}

/** Field names are kept as written, as etcd3 asks proto-loader to do. */
async function describeProtos(dir: string): Promise<string> {
  const root = new protobuf.Root()
  root.resolvePath = (_origin, target) => join(dir, target)
  await root.load('rpc.proto', { keepCase: true })
  return JSON.stringify(root.toJSON())
}
