#!/usr/bin/env node
// `npx deltawatch …` inside a checkout. Owns: naming the script of the command line. Does not own: anything else (run.cjs).
'use strict'

require('./run.cjs').run('client/cli/main.ts', process.argv.slice(2))
