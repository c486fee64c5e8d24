// npm run format: rewrites the tree as Biome would have it. Owns nothing but the call.

import { join } from 'node:path'
import { ROOT, runTask } from './spawn.ts'

const { code } = await runTask(join(ROOT, 'node_modules', '.bin', 'biome'), ['format', '--write'], {
  output: 'inherit',
})
process.exitCode = code
