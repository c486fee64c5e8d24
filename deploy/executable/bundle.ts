// Turns one program into one JavaScript file that needs nothing but Node's own modules.
// Owns: esbuild's settings and the list of what went in. Does not own: the executable around it (sea.ts).

import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { build, type Metafile } from 'esbuild'
import { embedEtcdProtos } from './embed-protos.ts'
import type { Program } from './programs.ts'

export interface Bundle {
  readonly file: string
  /** Turns the positions of a stack trace back into lines of the sources. */
  readonly map: string
  readonly bytes: number
  /** Directories of the packages inside, such as node_modules/ws. */
  readonly packages: readonly string[]
}

// CommonJS packages inside an ES module call require() for Node's modules; there is none unless one is made.
const BANNER =
  "import { createRequire as makeRequire } from 'node:module'; const require = makeRequire(process.execPath);"

export async function bundle(program: Program, root: string, outDir: string): Promise<Bundle> {
  const file = join(outDir, `${program.name}.mjs`)
  const result = await build({
    absWorkingDir: root,
    entryPoints: [program.entry],
    outfile: file,
    bundle: true,
    platform: 'node',
    target: 'node26',
    format: 'esm',
    banner: { js: BANNER },
    // Beside the program, not in it: inside, it costs 40 MB of memory and a quarter of the start's CPU, for nobody.
    sourcemap: 'external',
    sourcesContent: false,
    // Error names and function names appear in logs.
    keepNames: true,
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: 'none',
    metafile: true,
    logLevel: 'silent',
    // Accelerators that ws uses when they happen to be installed; they are not.
    external: ['bufferutil', 'utf-8-validate'],
    plugins: [embedEtcdProtos],
  })
  const { size: bytes } = await stat(file)
  return { file, map: `${file}.map`, bytes, packages: packagesOf(result.metafile) }
}

function packagesOf(metafile: Metafile): string[] {
  const found = new Set<string>()
  for (const path of Object.keys(metafile.inputs)) {
    const match = /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(path)
    if (match !== null) found.add(match[0])
  }
  return [...found].sort()
}
