// `deltawatch policy …`: what a data-protection officer and a pipeline do with policy bundles.
// Owns: names, options, help. Refuses: doing it (the other files here), and anything a running service does.

import { type Command, Option } from 'commander'
import type { ExitCode } from '../failure.ts'
import type { Terminal } from '../terminal.ts'
import type { BundleOptions, SignOptions } from './bundle.ts'
import type { CheckOptions } from './check.ts'
import type { DiffOptions } from './diff.ts'
import type { ExplainOptions } from './explain.ts'
import type { FormatOptions } from './format.ts'
import type { TestOptions } from './test.ts'

type Run = (action: (io: Terminal) => Promise<ExitCode>) => Promise<void>

const HELP = `
A bundle is a directory (regions/, tests/) or a file written by \`policy bundle\`; without a path it is ./policies.
Exit codes: 0 fine · 1 a test fails, a rule is not covered, a difference was found · 2 wrong command line · 78 the bundle is refused

Examples:
  deltawatch policy check policies --hub sz
  deltawatch policy test policies
  deltawatch policy explain --source sz --hub sz --key /orders/17/status --value '{"idNumber":"…"}' --to hk
  deltawatch policy diff policies candidate --events sample.jsonl --hub sz
  deltawatch policy bundle policies --out policies.bundle && deltawatch policy sign policies.bundle --key signing.pem
`
const PATH = 'bundle: a directory or a bundle file'

/** Adds the `policy` commands to a program. `run` gives an action its terminal and takes its exit code. */
export function registerPolicyCommands(program: Command, run: Run): void {
  const policy = program
    .command('policy')
    .description('Check, test, explain, compare and sign region policies.')
    .addHelpText('after', HELP)
  const json = (): Option => new Option('--json', 'print JSON instead of text')
  const hub = (): Option => new Option('--hub <region>', 'region the hub stands in')

  policy
    .command('check')
    .argument('[path]', PATH, 'policies')
    .addOption(hub())
    .option('--keys <dir>', 'directory of HMAC keys, to warn of missing ones')
    .option('--public-key <pem>', 'require a signature by this ed25519 key')
    .option('--at <instant>', 'judge legal bases at this time instead of now')
    .option('--canary-of <bundle>', 'this one is to be a canary of that one: warn of rates it would lift')
    .option('--strict', 'warnings fail too')
    .addOption(json())
    .description('Refuse what the services would refuse; warn of overlaps, lapsing bases and rules without effect.')
    .action((path: string, options: CheckOptions) =>
      run(async (io) => (await import('./check.ts')).check(path, options, io)),
    )

  policy
    .command('test')
    .argument('[path]', PATH, 'policies')
    .option('--no-coverage', 'do not fail when a rule lacks an allow or a deny case')
    .addOption(json())
    .description('Run the tests beside the documents; every rule needs a case for and a case against.')
    .action((path: string, options: TestOptions) =>
      run(async (io) => (await import('./test.ts')).test(path, options, io)),
    )

  policy
    .command('explain')
    .argument('[path]', PATH, 'policies')
    .requiredOption('--source <region>', 'region the data comes from')
    .addOption(hub().makeOptionMandatory())
    .requiredOption('--key <key>', 'etcd key')
    .addOption(new Option('--op <op>', 'operation').choices(['put', 'delete']).default('put'))
    .option('--value <text>', 'value of the put')
    .option('--value-file <file>', 'the same, from a file')
    .option('--prev <text>', 'previous value')
    .option('--prev-unknown', 'the previous value is not to be had')
    .option('--to <region>', 'region of a subscriber; without it only what leaves is explained')
    .option('--org <name>', 'organisation of the subscriber')
    .option('--audience <name...>', 'audiences of the subscriber')
    .option('--scope <name...>', 'scopes of the subscriber')
    .option('--label <name=value...>', 'labels of the subscriber')
    .option('--anonymous', 'the subscriber is anonymous')
    .option('--keys <dir>', 'directory of HMAC keys; without it test keys are used')
    .option('--at <instant>', 'decide at this time instead of now')
    .addOption(json())
    .description('Say which rules decided about one change and why.')
    .action((path: string, options: ExplainOptions) =>
      run(async (io) => (await import('./explain.ts')).explain(path, options, io)),
    )

  policy
    .command('diff')
    .argument('<before>', PATH)
    .argument('<after>', PATH)
    .option('--events <file>', 'recorded events (JSON lines), decided by both bundles')
    .option('--decisions <file>', 'decision log (JSON lines), to count what rests on changed rules')
    .addOption(hub())
    .addOption(json())
    .description('Say which rules change, and what that changes for recorded events or decisions.')
    .action((before: string, after: string, options: DiffOptions) =>
      run(async (io) => (await import('./diff.ts')).diff(before, after, options, io)),
    )

  policy
    .command('bundle')
    .argument('[path]', PATH, 'policies')
    .option('--out <file>', 'write one bundle file, for a NATS KV bucket or an artefact store')
    .option('--manifest', 'write MANIFEST.sha256 into the directory instead')
    .description('Seal a tested bundle with the SHA-256 of every file; prints its revision.')
    .action((path: string, options: BundleOptions) =>
      run(async (io) => (await import('./bundle.ts')).bundle(path, options, io)),
    )

  policy
    .command('sign')
    .argument('<path>', 'a bundle file, or a directory with a manifest')
    .requiredOption('--key <pem>', 'ed25519 private key (openssl genpkey -algorithm ed25519)')
    .description('Sign the manifest of a bundle.')
    .action((path: string, options: SignOptions) =>
      run(async (io) => (await import('./bundle.ts')).signBundle(path, options, io)),
    )

  policy
    .command('fmt')
    .argument('[path]', PATH, 'policies')
    .option('--check', 'change nothing; fail when a file is not formatted')
    .description('Format the documents of a directory; comments stay.')
    .action((path: string, options: FormatOptions) =>
      run(async (io) => (await import('./format.ts')).format(path, options, io)),
    )

  policy
    .command('schema')
    .addOption(new Option('--kind <kind>', 'which document').choices(['policy', 'tests']).default('policy'))
    .description('Print the JSON Schema of policy documents or their tests, for editors.')
    .action((options: { kind: 'policy' | 'tests' }) =>
      run(async (io) => (await import('./schema.ts')).schema(options, io)),
    )
}
