// Errors of configuration: everything that is wrong with it, in one throw.
// Owns: the error class and its codes. Does not own: how a problem is found (validate.ts) or printed (load.ts).

import { DeltawatchError } from '../errors.ts'

/** `message` holds one line per problem; `problems` the same lines apart. No line contains a secret. */
export class ConfigError extends DeltawatchError {
  readonly problems: readonly string[]

  constructor(problems: readonly string[], code = 'DW_CONFIG_INVALID') {
    super(code, problems.join('\n'))
    this.problems = problems
  }
}
