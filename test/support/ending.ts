// How a test file's process ends. Loaded before every test file (deploy/tasks/test.ts).
// Owns: leaving without Node's teardown. Refuses: ending anything early: the event loop has run dry by then, so every test
// has ended and every report is written.
//
// Node 26 now and then never ends by itself after connections were cut in the middle of a write: its teardown (Environment::
// CleanupHandles) then waits, at full load, for a request that is gone. The services and the command line leave by
// process.exit, which has no such teardown.

if (process.env.NODE_TEST_CONTEXT !== undefined) {
  // Added that late it is the last to hear of the exit: the runner's own listeners have set the exit code.
  process.once('beforeExit', () => process.once('exit', () => process.exit()))
}
