#!/usr/bin/env node
// `npx deltawatch-agent …` inside a checkout. Owns: naming the script of the edge agent. Does not own: anything else (run.cjs).
'use strict'

require('./run.cjs').run('edge-agent/main.ts', process.argv.slice(2))
