// node deploy/toolchain/main.ts [--only etcd,nats-server,k6] [--json]
// Owns: the command line of the toolchain: make every named tool present, say what and where. Exit 1 when one is missing.
// Does not own: the search (resolve.ts).

import { parseArgs } from 'node:util'
import { createProgress } from './progress.ts'
import { type ResolvedTool, resolveTool, ToolMissingError } from './resolve.ts'
import { TOOLS, type ToolName } from './tools.ts'

const DEFAULT: readonly ToolName[] = ['etcd', 'nats-server', 'k6']

const isToolName = (name: string): name is ToolName => Object.hasOwn(TOOLS, name)

async function main(): Promise<number> {
  const { values } = parseArgs({ options: { only: { type: 'string' }, json: { type: 'boolean', default: false } } })
  const names = values.only === undefined ? DEFAULT : values.only.split(',').map((name) => name.trim())
  const progress = createProgress(process.stderr)
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)))

  const tools: ResolvedTool[] = []
  for (const name of names) {
    if (!isToolName(name)) throw new RangeError(`--only: no tool "${name}"; there are ${Object.keys(TOOLS).join(', ')}`)
    tools.push(await resolveTool(name, { progress, signal: stop.signal }))
  }
  progress.end()
  if (values.json) process.stdout.write(`${JSON.stringify(tools, null, 2)}\n`)
  else
    for (const tool of tools)
      process.stdout.write(`${tool.name.padEnd(12)} ${tool.version.padEnd(9)} ${tool.source.padEnd(10)} ${tool.path}\n`)
  return 0
}

try {
  process.exitCode = await main()
} catch (error) {
  const expected = error instanceof ToolMissingError || error instanceof RangeError || error instanceof TypeError
  process.stderr.write(
    `${expected ? error.message : String(error instanceof Error ? (error.stack ?? error) : error)}\n`,
  )
  process.exitCode = 1
}
