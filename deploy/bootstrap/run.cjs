#!/usr/bin/env node
// node deploy/bootstrap/run.cjs <script.ts> [arguments...]
// Owns: the way from whatever Node the machine has (18 or newer) to the project's own: install what is missing, then run.
// Does not own: what the script does. Plain CommonJS without dependencies, because nothing else is sure to be there yet.
'use strict'

const path = require('node:path')
const { ensureInstalled } = require('./install.cjs')
const { findNode } = require('./find-node.cjs')
const { relay } = require('./relay.cjs')

const ROOT = path.resolve(__dirname, '../..')

/** Runs a script of this checkout, given relative to its root, with the caller's working directory, streams and signals. */
function run(script, args) {
  try {
    ensureInstalled(ROOT)
    relay(findNode(ROOT), path.join(ROOT, script), args)
  } catch (error) {
    process.stderr.write(`${error.expected === true ? error.message : (error.stack ?? error)}\n`)
    process.exitCode = 1
  }
}

module.exports = { run }

if (require.main === module) {
  const [script, ...args] = process.argv.slice(2)
  if (script === undefined) {
    process.stderr.write('usage: node deploy/bootstrap/run.cjs <script.ts> [arguments...]\n')
    process.exitCode = 2
  } else {
    run(script, args)
  }
}
