// `vue-tsc` with the TypeScript of the examples: the one it would find by itself is 7, which it does not work with.
require('vue-tsc').run(require.resolve('typescript/lib/tsc'));
