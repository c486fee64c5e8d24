// Puts a bundle into a copy of the Node that runs this, giving one file that needs nothing beside it.
// Owns: the preparation of that copy and the call of `node --build-sea`. Does not own: the bundle (bundle.ts).
// The copy is stripped before the bundle goes in; stripping an executable afterwards makes one that crashes.

import { chmod, copyFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { runCommand } from '../toolchain/command.ts'
import type { Program } from './programs.ts'

/** Returns the path of a Node to build on: without symbols where `strip` exists, as it is elsewhere. */
export async function prepareNode(workDir: string): Promise<string> {
  const copy = join(workDir, 'node')
  await copyFile(process.execPath, copy)
  await chmod(copy, 0o755)
  if (process.platform !== 'linux') return copy
  const before = (await stat(copy)).size
  // Only a size matter, so its absence or refusal is no error; but a stripped Node must prove that it still runs.
  const works = await runCommand('strip', ['--strip-all', copy])
    .then(() => runCommand(copy, ['--version'], { timeoutMs: 10_000 }))
    .then(
      () => true,
      () => false,
    )
  if (works && (await stat(copy)).size <= before) return copy
  await copyFile(process.execPath, copy)
  return copy
}

export async function buildExecutable(program: Program, bundle: string, node: string, output: string): Promise<void> {
  const config = `${bundle}.json`
  await writeFile(
    config,
    JSON.stringify({
      main: bundle,
      mainFormat: 'module',
      executable: node,
      output,
      disableExperimentalSEAWarning: true,
      useSnapshot: false,
      // Spares compiling at every start. It rules out import() of files at run time, of which there are none here.
      useCodeCache: true,
      execArgv: program.nodeOptions,
      // NODE_OPTIONS of whoever starts it still work, for debugging in place.
      execArgvExtension: 'env',
    }),
  )
  await runCommand(process.execPath, ['--build-sea', config], { timeoutMs: 120_000 })
  await chmod(output, 0o755)
}
