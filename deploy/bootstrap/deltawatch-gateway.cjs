#!/usr/bin/env node
// `npx deltawatch-gateway …` inside a checkout. Owns: naming the script of the gateway. Does not own: anything else (run.cjs).
'use strict'

require('./run.cjs').run('gateway/main.ts', process.argv.slice(2))
