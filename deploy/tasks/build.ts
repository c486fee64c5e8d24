// npm run build: dist/deltawatch-agent, dist/deltawatch-gateway, dist/deltawatch, each one file for this platform.
// Owns: the sequence and what is printed. Does not own: how a bundle or an executable is made (deploy/executable).

import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { bundle } from '../executable/bundle.ts'
import { licencesOf } from '../executable/licences.ts'
import { PROGRAMS } from '../executable/programs.ts'
import { buildExecutable, prepareNode } from '../executable/sea.ts'
import { ROOT } from './spawn.ts'

const DIST = join(ROOT, 'dist')
const work = join(DIST, '.work')
const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`

await rm(DIST, { recursive: true, force: true })
await mkdir(work, { recursive: true })
await mkdir(join(DIST, 'maps'))
const node = await prepareNode(work)
const packages = new Set<string>()
for (const program of PROGRAMS) {
  const made = await bundle(program, ROOT, work).catch((error: unknown) => {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`)
    process.exit(1)
  })
  for (const name of made.packages) packages.add(name)
  const output = join(DIST, program.name)
  await buildExecutable(program, made.file, node, output)
  await rename(made.map, join(DIST, 'maps', `${program.name}.mjs.map`))
  const size = megabytes((await stat(output)).size)
  process.stdout.write(`dist/${program.name.padEnd(20)} ${size.padStart(9)}  (program ${megabytes(made.bytes)})\n`)
}
await writeFile(join(DIST, 'THIRD_PARTY_LICENSES'), await licencesOf([...packages].sort(), ROOT))
await rm(work, { recursive: true, force: true })
