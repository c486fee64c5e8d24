// Makes node_modules match package-lock.json.
// Owns: deciding whether `npm ci` is needed, running it once even when several commands start together, and saying what failed.
// Does not own: versions (the lock file does) and install scripts: they are never run, no dependency needs one.
'use strict'

const { createHash } = require('node:crypto')
const fs = require('node:fs')
const path = require('node:path')
const { spawnSync } = require('node:child_process')

const MARKER = '.deltawatch-lock'
const WAIT_MS = 200
const WAIT_LIMIT_MS = 10 * 60_000

/** Throws an error with `expected: true` and a readable message when the dependencies cannot be installed. */
function ensureInstalled(root) {
  const lockText = readOrUndefined(path.join(root, 'package-lock.json'))
  if (lockText === undefined) throw expected(`${root} has no package-lock.json: this is not a complete checkout`)
  const wanted = createHash('sha256').update(lockText).digest('hex')
  if (isInstalled(root, wanted, lockText)) return
  const release = takeLock(path.join(root, '.deltawatch', 'install.lock'))
  try {
    if (isInstalled(root, wanted, lockText)) return
    install(root)
    writeMarker(root, wanted)
  } finally {
    release()
  }
}

function isInstalled(root, wanted, lockText) {
  const modules = path.join(root, 'node_modules')
  if (readOrUndefined(path.join(modules, MARKER)) === wanted) return true
  // Somebody ran npm themselves: npm's own record of what it installed says whether that was the same.
  const record = readOrUndefined(path.join(modules, '.package-lock.json'))
  if (record === undefined || !sameTree(lockText, record)) return false
  writeMarker(root, wanted)
  return true
}

/** Every package of the lock is installed as locked; only optional ones (other platforms) may be absent. */
function sameTree(lockText, recordText) {
  let lock
  let record
  try {
    lock = JSON.parse(lockText).packages
    record = JSON.parse(recordText).packages
  } catch {
    return false
  }
  for (const [place, entry] of Object.entries(lock)) {
    if (place === '') continue
    const installed = record[place]
    if (installed === undefined && entry.optional === true) continue
    if (installed === undefined || installed.version !== entry.version || installed.integrity !== entry.integrity)
      return false
  }
  return Object.keys(record).every((place) => place in lock)
}

function install(root) {
  process.stderr.write('installing dependencies (once, and after they change)\n')
  const args = [
    'ci',
    '--ignore-scripts',
    '--no-audit',
    '--no-fund',
    '--include=dev',
    '--include=optional',
    '--loglevel=error',
  ]
  const npm = npmCommand()
  const result = spawnSync(npm.command, [...npm.args, ...args], {
    cwd: root,
    // Standard output belongs to the command that was asked for.
    stdio: ['ignore', process.stderr.fd ?? 2, 'inherit'],
    shell: npm.shell,
  })
  if (result.error !== undefined) {
    throw expected(`npm could not be started (${result.error.message}): install npm, which comes with Node`)
  }
  if (result.status !== 0) {
    const how = result.signal === null ? `exit code ${result.status}` : result.signal
    throw expected(
      `npm ci failed (${how}); its message is above. It needs a reachable package registry (npm config get registry) ` +
        `and write access to ${path.join(root, 'node_modules')}`,
    )
  }
}

/** Under `npm run` the same npm is used again; otherwise the one on PATH. */
function npmCommand() {
  const cli = process.env.npm_execpath
  if (cli !== undefined && /\bnpm-cli\.c?js$/.test(cli)) return { command: process.execPath, args: [cli], shell: false }
  return { command: 'npm', args: [], shell: process.platform === 'win32' }
}

function writeMarker(root, wanted) {
  try {
    fs.writeFileSync(path.join(root, 'node_modules', MARKER), wanted)
  } catch {
    // A read-only checkout works too; the comparison is merely repeated next time.
  }
}

/** Waits for another installation of this checkout to end. A lock whose process is gone is taken over. */
function takeLock(file) {
  fs.mkdirSync(path.dirname(file), { recursive: true })
  const sleeper = new Int32Array(new SharedArrayBuffer(4))
  for (let waited = 0; ; waited += WAIT_MS) {
    try {
      fs.writeFileSync(file, String(process.pid), { flag: 'wx' })
      return () => fs.rmSync(file, { force: true })
    } catch (error) {
      if (error.code !== 'EEXIST') throw error
    }
    const holder = Number(readOrUndefined(file) ?? '')
    if (holder > 0 && !isAlive(holder)) fs.rmSync(file, { force: true })
    if (waited === 0) process.stderr.write(`waiting for process ${holder}, which is installing the dependencies\n`)
    if (waited > WAIT_LIMIT_MS)
      throw expected(`${file} is held by process ${holder} for too long: remove it if that is not npm`)
    Atomics.wait(sleeper, 0, 0, WAIT_MS)
  }
}

function isAlive(pid) {
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return error.code === 'EPERM'
  }
}

function readOrUndefined(file) {
  try {
    return fs.readFileSync(file, 'utf8')
  } catch {
    return undefined
  }
}

function expected(message) {
  return Object.assign(new Error(message), { expected: true })
}

module.exports = { ensureInstalled, sameTree }
