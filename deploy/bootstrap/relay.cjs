// Runs the script as if it had been started directly: same arguments, streams, working directory, signals and exit code.
// Owns: passing each signal on exactly once, and making sure the child does not outlive this process.
// Does not own: what the child does with a signal.
//
// The child leads a session of its own. A terminal sends Ctrl-C to everybody in the foreground group and npm sends it again,
// so a child in that group would be told two or three times and take the second for "now, at once".
'use strict'

const path = require('node:path')
const { spawn } = require('node:child_process')

const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR2']
/** Copies of one request arrive within milliseconds of each other; a person needs longer to ask a second time. */
const SAME_REQUEST_MS = 150
const PARENT_CHECK_MS = 500
const LIFELINE_FD = 3

function relay(node, script, args) {
  const lifeline = new URL('lifeline.mjs', `file://${path.join(__dirname, '/')}`).href
  const child = spawn(node, ['--import', lifeline, script, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'pipe'],
    detached: process.platform !== 'win32',
    env: {
      // Kept between runs, stripped and compiled code halves what a start costs.
      NODE_COMPILE_CACHE: path.resolve(__dirname, '../../.deltawatch/compile-cache'),
      ...process.env,
      PATH: pathWith(node),
      DELTAWATCH_LIFELINE_FD: String(LIFELINE_FD),
    },
  })
  child.stdio[LIFELINE_FD].on('error', () => {})

  const last = new Map()
  const forward = (signal) => {
    const now = Date.now()
    if (now - (last.get(signal) ?? 0) < SAME_REQUEST_MS) return
    last.set(signal, now)
    child.kill(signal)
  }
  for (const signal of FORWARDED) process.on(signal, () => forward(signal))
  if (process.platform !== 'win32') relayTerminal(child)
  const watch = watchParent(() => forward('SIGTERM'))

  child.on('error', (error) => {
    process.stderr.write(`${node} could not be started: ${error.message}\n`)
    process.exitCode = 1
  })
  child.on('exit', (code, signal) => {
    clearInterval(watch)
    if (signal === null) process.exit(code ?? 1)
    // Ends by the same signal, so that a shell sees what it would have seen.
    for (const name of FORWARDED) process.removeAllListeners(name)
    process.kill(process.pid, signal)
    // A signal whose default is to be ignored, or one that is blocked here, must not leave us hanging.
    setTimeout(() => process.exit(1), 1_000)
  })
}

/** Tools of node_modules/.bin begin with `env node`; they must meet the same Node as the script. */
function pathWith(node) {
  return [path.dirname(node), process.env.PATH].filter(Boolean).join(path.delimiter)
}

/** Window size and Ctrl-Z, which a child in another session would not hear of. */
function relayTerminal(child) {
  process.on('SIGWINCH', () => child.kill('SIGWINCH'))
  process.on('SIGTSTP', () => {
    child.kill('SIGSTOP')
    process.kill(process.pid, 'SIGSTOP')
  })
  process.on('SIGCONT', () => child.kill('SIGCONT'))
}

/** Under npm, the death of npm is the end of the command; started any other way, outliving the starter is a daemon's right. */
function watchParent(onGone) {
  if (process.env.npm_lifecycle_event === undefined || process.platform === 'win32') return undefined
  const parent = process.ppid
  const timer = setInterval(() => {
    if (process.ppid === parent) return
    clearInterval(timer)
    onGone()
  }, PARENT_CHECK_MS)
  return timer
}

module.exports = { relay }
