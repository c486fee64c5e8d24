// Which keys of which clusters a command is about.
// Owns: --cluster, --region, --prefix, --key, --values, and their translation into a request. Refuses: judging names.

import { type Command, InvalidArgumentError, Option } from 'commander'
import type { StateRequest } from '../options.ts'

export type SelectionOptions = {
  readonly cluster?: readonly string[]
  readonly region?: readonly string[]
  readonly prefix?: string
  readonly key?: string
  readonly values: 'auto' | 'base64' | 'none'
}

/** `a,b` and repetition both make a list. */
export const names = (text: string, before: readonly string[] = []): readonly string[] => {
  const found = text.split(',').map((name) => name.trim())
  const wrong = found.find((name) => !/^[a-z0-9-]{1,32}$/.test(name))
  if (wrong !== undefined) throw new InvalidArgumentError(`"${wrong}" is no name: write 1 to 32 of a-z, 0-9 and -`)
  return [...before, ...found]
}

export function addSelection(command: Command): Command {
  return command
    .option('-c, --cluster <ids>', 'only these clusters, e.g. sz-edge-1,gz-edge-1 (default: all you may see)', names)
    .option('-r, --region <ids>', 'only clusters of these regions', names)
    .addOption(new Option('-p, --prefix <prefix>', 'keys that start with this (default: every key)').conflicts('key'))
    .addOption(new Option('-k, --key <key>', 'this key alone').conflicts('prefix'))
    .addOption(
      new Option('--values <form>', 'auto: JSON or text where they are; base64: exact bytes; none: keys only')
        .choices(['auto', 'base64', 'none'])
        .default('auto'),
    )
}

export function requestOf(options: SelectionOptions): StateRequest {
  const { cluster, region, key, prefix, values } = options
  return {
    ...(key === undefined ? { prefix: prefix ?? '' } : { key }),
    ...(cluster === undefined ? {} : { clusters: cluster }),
    ...(region === undefined ? {} : { regions: region }),
    values,
  }
}
