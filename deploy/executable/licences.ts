// The licence texts of everything inside the executables, which most of those licences require to travel along.
// Owns: one text file. A package without a licence fails the build: nobody could say that it may be shipped.

import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { isRecord } from '../toolchain/narrow.ts'

export async function licencesOf(packages: readonly string[], root: string): Promise<string> {
  const parts: string[] = []
  for (const dir of packages) {
    const manifest: unknown = JSON.parse(await readFile(join(root, dir, 'package.json'), 'utf8'))
    if (!isRecord(manifest)) throw new TypeError(`${dir}/package.json is not an object`)
    const { name, version, license } = manifest
    const files = (await readdir(join(root, dir))).filter((file) => /^(licen[cs]e|copying|notice)(\.|-|$)/i.test(file))
    if (typeof license !== 'string' && files.length === 0) throw new Error(`${dir} states no licence`)
    const texts = await Promise.all(files.sort().map((file) => readFile(join(root, dir, file), 'utf8')))
    const stated = typeof license === 'string' ? license : 'see below'
    parts.push(`${String(name)} ${String(version)}: ${stated}\n\n${texts.map((text) => text.trim()).join('\n\n')}`)
  }
  return `${parts.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`
}
