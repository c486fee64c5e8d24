// node deploy/bootstrap/run.cjs deploy/tasks/lock.ts: completes package-lock.json after a dependency was added.
// npm leaves out optional packages of other platforms when it cannot see them (a mirror without them, a tree installed for one
// platform only), and `npm ci` then refuses the lock everywhere. Owns: adding those entries, with the version their parent pins
// and the platform their name states. Does not own: checksums. An entry made here has none; npm adds it where it sees the package.

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { completeLock, isLock } from './lockfile.ts'
import { ROOT } from './spawn.ts'

const file = join(ROOT, 'package-lock.json')
const lock: unknown = JSON.parse(await readFile(file, 'utf8'))
if (!isLock(lock)) throw new TypeError(`${file} is not a lock file of version 2 or 3`)
const { added, missing } = completeLock(lock)
if (added.length > 0) await writeFile(file, `${JSON.stringify(lock, null, 2)}\n`)
for (const name of added) process.stdout.write(`added ${name}\n`)
for (const name of missing) process.stdout.write(`missing, and not optional: ${name}; run npm install\n`)
process.stdout.write(`${added.length} entries added\n`)
process.exitCode = missing.length === 0 ? 0 : 1
