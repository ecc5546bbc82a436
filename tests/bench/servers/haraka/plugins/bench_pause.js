// hold every client so many seconds before the greeting
exports.hook_connect_init = (next) => { setTimeout(() => next(), Number(process.env.BENCH_PAUSE) * 1000) }
