// BullMQ under the workloads of `bursar bench`: what a queue that neither commits to a database nor bills can do on
// the same machine. Prints one JSON document with medians; every repetition is checked for completeness before its
// figure counts. Must stay fair: BullMQ gets the layout that measured fastest, and the choice is printed.
//
//   REDIS_URL=redis://127.0.0.1:6379 node bench.mjs [--repeat 3] [--flows 2000] [--chains 200] [--jobs 20000]
//
// The database of REDIS_URL is emptied before each repetition: give it a Redis of its own (`../run` does).
import { fork } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { FlowProducer, Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { createClient } from 'redis';

const QUEUE = 'peer';
const CHUNK = { flows: 100, jobs: 1000 };
const DONE = { removeOnComplete: true };
// about 100 bytes of JSON, the same text as the steps of `bursar bench`
const RESULT = {
  text: 'about one hundred bytes of text, as a step of an agent would hand to its children, and no more',
};
const DEADLINE_MS = 120_000;

// Layouts to try: worker processes (0: inside the producer's), Worker instances in each, jobs at once per instance.
const LAYOUTS = ['ioredis', 'node-redis'].flatMap((driver) => [
  { driver, processes: 0, workers: 1, concurrency: 32 },
  { driver, processes: 0, workers: 1, concurrency: 128 },
  { driver, processes: 0, workers: 1, concurrency: 512 },
  { driver, processes: 0, workers: 4, concurrency: 64 },
  { driver, processes: 0, workers: 8, concurrency: 64 },
  { driver, processes: 1, workers: 1, concurrency: 128 },
  { driver, processes: 1, workers: 4, concurrency: 64 },
  { driver, processes: 2, workers: 1, concurrency: 128 },
  { driver, processes: 2, workers: 4, concurrency: 64 },
]);

// ---- workers -------------------------------------------------------------------------------------------------

// A connection of the driver's own kind, which BullMQ duplicates where it blocks.
async function connect(driver) {
  if (driver === 'ioredis') {
    return new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });
  }
  const client = createClient({ url: process.env.REDIS_URL });
  await client.connect();
  return client;
}

// A step: parents fetch what their children returned; the first step of a diamond adds the rest of it.
async function step(job, flows) {
  if (job.name === 'first') {
    const middle = ['b', 'c', 'd'].map((name) => ({ name, queueName: QUEUE, data: RESULT, opts: DONE }));
    await flows.add({ name: 'last', queueName: QUEUE, data: { needs: 3 }, opts: DONE, children: middle });
  }
  if (job.data.needs) {
    const received = Object.keys(await job.getChildrenValues()).length;
    if (received !== job.data.needs) throw new Error(`${job.name} received ${received} of ${job.data.needs} results`);
  }
  return RESULT;
}

// Starts Worker instances in this process; `report` is told of every completion.
async function startWorkers({ driver, workers, concurrency }, report) {
  const connection = await connect(driver);
  const flows = new FlowProducer({ connection });
  const started = Array.from({ length: workers }, () => {
    const worker = new Worker(QUEUE, (job) => step(job, flows), { connection, concurrency });
    worker.on('completed', (job) => report({ name: job.name, id: job.id }));
    worker.on('failed', (job, error) => report({ failed: `${job?.name}: ${error.message}` }));
    worker.on('error', (error) => report({ failed: error.message }));
    return worker;
  });
  await Promise.all(started.map((worker) => worker.waitUntilReady()));
  return async () => {
    await Promise.all(started.map((worker) => worker.close()));
    await flows.close();
    await disconnect(connection);
  };
}

async function disconnect(connection) {
  await (connection.close ? connection.close() : connection.quit());
}

// A worker process: reports completions in groups, so that counting costs the parent little.
async function workerProcess(layout) {
  let reports = [];
  const stop = await startWorkers(layout, (report) => {
    if (reports.push(report) === 1) setTimeout(() => process.send(reports.splice(0)), 2);
  });
  process.on('message', async () => {
    await stop();
    process.exit(0);
  });
  process.send('ready');
}

// ---- a place for one repetition ------------------------------------------------------------------------------

class Site {
  static async open(layout) {
    const site = new Site();
    site.layout = layout;
    site.connection = await connect(layout.driver);
    await (site.connection.flushall?.() ?? site.connection.flushAll());
    site.queue = new Queue(QUEUE, { connection: site.connection });
    site.flows = new FlowProducer({ connection: site.connection });
    site.stops = [];
    site.children = [];
    site.counts = new Map();
    site.waits = [];
    await site.queue.waitUntilReady();
    return site;
  }

  async work() {
    const report = (what) => this.#report(what);
    if (this.layout.processes === 0) this.stops.push(await startWorkers(this.layout, report));
    for (let i = 0; i < this.layout.processes; i += 1) {
      const child = fork(fileURLToPath(import.meta.url), ['worker', JSON.stringify(this.layout)]);
      this.children.push(child);
      await new Promise((resolve) => child.once('message', resolve));
      child.on('message', (reports) => reports.forEach(report));
      this.stops.push(() => new Promise((resolve) => child.once('exit', resolve).send('stop')));
    }
  }

  #report({ name, failed }) {
    if (failed) this.failure ??= new Error(failed);
    this.counts.set(name, (this.counts.get(name) ?? 0) + 1);
    this.waits = this.waits.filter((wait) => {
      if (!this.failure && (this.counts.get(wait.name) ?? 0) < wait.count) return true;
      clearTimeout(wait.timer);
      this.failure ? wait.reject(this.failure) : wait.resolve();
      return false;
    });
  }

  // Resolves when `more` jobs called `name` have completed from now on.
  completed(name, more) {
    const count = (this.counts.get(name) ?? 0) + more;
    return new Promise((resolve, reject) => {
      const soFar = () => this.counts.get(name) ?? 0;
      const late = () => reject(new Error(`${soFar()} of ${count} '${name}' in ${DEADLINE_MS} ms`));
      this.waits.push({ name, count, resolve, reject, timer: setTimeout(late, DEADLINE_MS) });
    });
  }

  // Stops the workers, and refuses the repetition when anything is left over or the number of jobs is not right.
  async close(expected) {
    await Promise.all(this.stops.map((stop) => stop()));
    const left = await this.queue.getJobCounts();
    const done = [...this.counts.values()].reduce((sum, count) => sum + count, 0);
    await this.queue.close();
    await this.flows.close();
    await disconnect(this.connection);
    const leftover = Object.entries(left).filter(([, count]) => count > 0);
    if (leftover.length > 0) throw new Error(`left in the queue: ${JSON.stringify(leftover)}`);
    if (done !== expected) throw new Error(`${done} jobs completed, ${expected} expected`);
  }
}

// ---- the workloads -------------------------------------------------------------------------------------------
//
// Each warms its processes up with a tenth of the work before the clock starts: a fresh Node compiles for a while.

async function inChunks(items, size, add) {
  for (let i = 0; i < items.length; i += size) await add(items.slice(i, i + size));
}

const seconds = (since) => (performance.now() - since) / 1000;
const repeated = (count, item) => Array.from({ length: count }, () => item);
const node = (name, needs, children) => ({ name, queueName: QUEUE, data: { needs }, opts: DONE, children });

// Runs `count` flows of five and answers how long that took; with workers running, as `bursar bench W1` does.
async function fives(layout, { flows }, add) {
  const site = await Site.open(layout);
  await site.work();
  const warm = Math.ceil(flows / 10);
  await Promise.all([site.completed('last', warm), add(site, warm)]);
  const start = performance.now();
  await Promise.all([site.completed('last', flows), add(site, flows)]);
  const elapsed = seconds(start);
  await site.close((warm + flows) * 5);
  return { nodes: (warm + flows) * 5, nodes_per_s: (flows * 5) / elapsed, elapsed_s: elapsed };
}

// W1, the diamond: first step → three → last. A flow is a tree, so the first step adds the flow of the other four
// when it runs; this is how BullMQ expresses a node that several others need.
function diamond(layout, sizes) {
  const first = { name: 'first', data: {}, opts: DONE };
  return fives(layout, sizes, (site, count) =>
    inChunks(repeated(count, first), CHUNK.flows, (chunk) => site.queue.addBulk(chunk)));
}

// W1 as one tree of five added at once: three leaves → one → last. Not the diamond (nothing fans out), but a
// five-node flow without a second add.
function tree(layout, sizes) {
  const flow = node('last', 1, [node('middle', 3, ['b', 'c', 'd'].map((name) => node(name)))]);
  return fives(layout, sizes, (site, count) =>
    inChunks(repeated(count, flow), CHUNK.flows, (chunk) => site.flows.addBulk(chunk)));
}

// W2: chains of three, one after another, on an idle system: from the add to the completion of the last step, seen
// by the worker in the same process (waitUntilFinished would add the way through Redis).
async function chain(layout, { chains }) {
  const site = await Site.open(layout);
  await site.work();
  const flow = node('last', 1, [node('middle', 1, [node('leaf')])]);
  const times = [];
  const warm = Math.ceil(chains / 10);
  for (let i = 0; i < warm + chains; i += 1) {
    const start = performance.now();
    await Promise.all([site.completed('last', 1), site.flows.add(flow)]);
    if (i >= warm) times.push(performance.now() - start);
  }
  await site.close((warm + chains) * 3);
  times.sort((a, b) => a - b);
  const at = (percent) => times[Math.min(Math.floor((times.length * percent) / 100), times.length - 1)];
  return { nodes: (warm + chains) * 3, p50_ms: at(50), p95_ms: at(95), p99_ms: at(99) };
}

// W3: single jobs, added in bulk while the queue is paused, then drained.
async function flat(layout, { jobs }) {
  const site = await Site.open(layout);
  const job = { name: 'flat', data: {}, opts: DONE };
  const add = (count) => inChunks(repeated(count, job), CHUNK.jobs, (chunk) => site.queue.addBulk(chunk));
  await site.work();
  const warm = Math.ceil(jobs / 10);
  await Promise.all([site.completed('flat', warm), add(warm)]);
  await site.queue.pause();
  const start = performance.now();
  await add(jobs);
  const added = seconds(start);
  const done = site.completed('flat', jobs);
  const resumed = performance.now();
  await site.queue.resume();
  await done;
  const drained = seconds(resumed);
  await site.close(warm + jobs);
  return { nodes: warm + jobs, added_per_s: jobs / added, drained_per_s: jobs / drained };
}

// ---- measuring -----------------------------------------------------------------------------------------------

function cpuSeconds(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].split(' ');
  // user and system time, of itself and of children that have ended, in ticks of 10 ms
  return [11, 12, 13, 14].reduce((sum, index) => sum + Number(fields[index]), 0) / 100;
}

function median(runs) {
  const middle = (name) => runs.map((run) => run[name]).sort((a, b) => a - b)[Math.floor(runs.length / 2)];
  return Object.fromEntries(Object.keys(runs[0]).map((name) => [name, round(middle(name))]));
}

const round = (number) => Number(number.toPrecision(4));
const loads = () => os.loadavg().map((load) => Number(load.toFixed(2)));

async function once(workload, layout, sizes) {
  const cpu = () => [cpuSeconds(process.pid), cpuSeconds(options.redisPid)];
  const before = cpu();
  const { nodes, ...figures } = await workload(layout, sizes);
  const [ofNode, ofRedis] = cpu().map((after, i) => ((after - before[i]) * 1e6) / nodes);
  return { ...figures, node_cpu_us_per_job: ofNode, redis_cpu_us_per_job: ofRedis };
}

// Tries every layout at a quarter of the size, then the best three at full size, and answers with all that was
// tried, best first: neighbours on the machine make a single try unreliable.
async function tuned(workload, figure, sizes) {
  const quarter = Object.fromEntries(Object.entries(sizes).map(([name, size]) => [name, Math.ceil(size / 4)]));
  const byFigure = (a, b) => b[figure] - a[figure];
  const tries = async (layouts, size) => {
    const tried = [];
    for (const layout of layouts) {
      const result = await once(workload, layout, size);
      tried.push({ layout, [figure]: round(result[figure]) });
    }
    return tried.sort(byFigure);
  };
  const [first, second, third, ...rest] = await tries(LAYOUTS, quarter);
  const finals = await tries([first, second, third].map(({ layout }) => layout), sizes);
  return { layout: finals[0].layout, tried: { full_size: finals, quarter_size: [first, second, third, ...rest] } };
}

async function measure(name, workload, layout, others) {
  const { sizes, repeat } = options;
  const load = loads();
  const runs = [];
  for (let i = 0; i < repeat; i += 1) runs.push(await once(workload, layout, sizes));
  const summary = { workload: name, layout, load_before: load, load_after: loads(), median: median(runs) };
  console.error(JSON.stringify(summary));
  return { ...summary, runs: runs.map((run) => median([run])), ...others };
}

async function versions() {
  const redis = new Redis(process.env.REDIS_URL);
  const info = await redis.info('server');
  const config = await redis.config('GET', 'appendonly', 'appendfsync', 'maxmemory-policy');
  await redis.quit();
  const require = createRequire(import.meta.url);
  const field = (name) => info.match(new RegExp(`^${name}:(\\S+)`, 'm'))[1];
  const version = (name) => require(`${name}/package.json`).version;
  return {
    redisPid: Number(field('process_id')),
    versions: {
      node: process.versions.node,
      bullmq: version('bullmq'),
      ioredis: version('ioredis'),
      'node-redis': version('redis'),
      redis: field('redis_version'),
    },
    redis_config: Object.fromEntries([0, 2, 4].map((index) => [config[index], config[index + 1]])),
  };
}

let options;

async function main() {
  const defaults = { repeat: 3, flows: 2000, chains: 200, jobs: 20000 };
  const flag = ([name, value]) => [name, { type: 'string', default: String(value) }];
  const { values } = parseArgs({ options: Object.fromEntries(Object.entries(defaults).map(flag)) });
  const { repeat, ...sizes } = Object.fromEntries(Object.entries(values).map(([name, text]) => [name, Number(text)]));
  for (const [name, count] of Object.entries({ repeat, ...sizes })) {
    if (!Number.isInteger(count) || count < 1) throw new Error(`--${name} must be a whole number from 1`);
  }
  const { redisPid, ...about } = await versions();
  options = { repeat, sizes, redisPid };
  const results = [];
  const rates = [
    ['W1 diamond', diamond, 'nodes_per_s'],
    ['W1 tree', tree, 'nodes_per_s'],
    ['W3', flat, 'drained_per_s'],
  ];
  for (const [name, workload, figure] of rates) {
    const { layout, tried } = await tuned(workload, figure, sizes);
    results.push(await measure(name, workload, layout, { tried }));
  }
  for (const driver of ['ioredis', 'node-redis']) {
    results.push(await measure('W2', chain, { driver, processes: 0, workers: 1, concurrency: 8 }, {}));
  }
  const [cpu] = os.cpus();
  const machine = { cpus: os.cpus().length, model: cpu?.model, memory_mb: Math.round(os.totalmem() / 2 ** 20) };
  console.log(JSON.stringify({ peer: 'bullmq', ...about, machine, sizes, repeat, results }, null, 2));
}

if (process.argv[2] === 'worker') {
  await workerProcess(JSON.parse(process.argv[3]));
} else {
  await main();
}
