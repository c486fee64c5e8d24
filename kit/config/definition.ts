// The configuration of one service, declared once: schema, flags, help. Everything else is derived from it.
// Owns: the declaration and its own checks, so that a flag that points nowhere fails in the first test and not in the field.
// Does not own: reading values (layers.ts), judging them (validate.ts), or the command line around them (load.ts).

import type * as z from 'zod'
import { FILE_SUFFIX, readShape, type Shape } from './shape.ts'

export interface ConfigSpec<S extends z.ZodObject> {
  /** Name of the program, e.g. `deltawatch-agent`. */
  readonly program: string
  /** One sentence for `--help` and the reference. */
  readonly summary: string
  /** A `z.strictObject`; describe every field with `.describe('…')`. Sections are nested strict objects. */
  readonly schema: S
  /** Field name -> commander flags: `{'nats.servers': '--nats <urls>'}`. A secret can only have its file variant here. */
  readonly flags: Readonly<Record<string, string>>
  /** Complete command lines shown at the end of `--help`. */
  readonly examples?: readonly string[]
  /** What is wrong between fields, each with what to do; asked once every field is right by itself. */
  check?(config: z.output<S>): readonly string[]
}

export interface ConfigDefinition<S extends z.ZodObject> extends ConfigSpec<S> {
  readonly shape: Shape
}

export function defineConfig<S extends z.ZodObject>(spec: ConfigSpec<S>): ConfigDefinition<S> {
  const shape = readShape(spec.schema)
  const allowed = new Map<string, string>()
  for (const f of shape.fields) {
    if (f.secret) allowed.set(`${f.name}${FILE_SUFFIX}`, 'text')
    else allowed.set(f.name, f.kind)
  }
  for (const [name, flags] of Object.entries(spec.flags)) {
    const kind = allowed.get(name)
    // A secret on a command line can be read by every user of the machine.
    if (kind === undefined) throw new RangeError(`flag ${flags}: ${name} is no field that a flag can set`)
    if (kind === 'structure') throw new RangeError(`flag ${flags}: ${name} is a structure; only the file can hold it`)
  }
  return { ...spec, shape }
}
