/** Everything the page says, in two languages. */
const WORDS = {
  title: ["windlass · live sales", "windlass · 实时成交"],
  views: ["View", "视图"],
  screen: ["Screen", "大屏"],
  operations: ["Operations", "运维"],
  at: ["Minute", "时刻"],
  replay: ["Replay", "回放"],
  live: ["Live", "实时"],
  play: ["Play", "播放"],
  pause: ["Pause", "暂停"],
  position: ["Second", "秒"],
  csv: ["CSV", "CSV"],
  otherLanguage: ["中文", "English"],
  otherTheme: ["Light / dark", "明 / 暗"],
  total: ["Gross sales", "成交总额"],
  totalReplay: ["Gross sales of this minute so far", "本分钟至此成交额"],
  map: ["Sales by province", "各省成交"],
  scope: ["Time span", "时间范围"],
  second: ["Second", "上一秒"],
  minute: ["Minute", "近一分钟"],
  run: ["All", "全程"],
  ranking: ["Ranking", "省份排行"],
  seconds: ["Sales per second, last 5 minutes (◆ revised)", "近五分钟每秒成交（◆ 已修正）"],
  fresh: ["Freshness", "数据新鲜度"],
  freshNow: ["Freshness now, not in the replay", "数据新鲜度（当前，非回放）"],
  operationsNow: ["operations are those of now", "运维数据为当前值"],
  noData: ["No data yet", "暂无数据"],
  noDispatcher: [
    "No dispatcher's figures: start the board with --dispatcher URL to see pool, queue and latency.",
    "没有调度器数据：以 --dispatcher URL 启动看板即可查看工作池、队列与延迟。",
  ],
  dispatcherSilent: [
    "The dispatcher has not answered yet: “What is wrong” says why. Pool, queue and latency are shown from its first answer on.",
    "调度器尚未应答，原因见“异常”。首次应答后即显示工作池、队列与延迟。",
  ],
  pool: ["Workers", "工作进程"],
  queue: ["Queue, messages", "队列（消息）"],
  waiting: ["Batches and windows", "批次与窗口"],
  latency: ["Latency, ms", "延迟（毫秒）"],
  ran: ["Where windows ran, invocations/s", "窗口在何处运行（调用/秒）"],
  ranWarm: ["pool", "常驻池"],
  ranOverflow: ["Job: overflow", "Job：溢出"],
  ranAsked: ["Job: asked", "Job：指定"],
  ranWhere: ["Ran in", "运行于"],
  window: ["Window", "窗口"],
  tuples: ["Tuples", "元组"],
  waited: ["Waited", "等待"],
  took: ["Took", "耗时"],
  placement: ["placement", "放置"],
  liveJobs: ["live Jobs", "存活 Job"],
  paused: ["no Job is created", "暂停创建 Job"],
  noJobs: ["no function ran in a Job yet", "尚无函数在 Job 中运行"],
  lastRuns: ["Last invocations", "最近调用"],
  cold: ["Cold starts of Jobs (median, then each)", "Job 冷启动（中位数及逐次）"],
  created: ["created", "已创建"],
  scheduled: ["scheduled", "已调度"],
  started: ["started", "已启动"],
  pulled: ["pulled", "已取件"],
  answered: ["answered", "已应答"],
  scaler: ["Scaler", "伸缩器"],
  noScaler: ["No scaler runs on this store.", "此存储上没有伸缩器运行。"],
  scalerSeen: ["The last one was alive at", "上一个最后存活于"],
  startScaler: [
    "Start one: windlass dispatch --workers auto, or windlass scaler --dispatcher URL.",
    "启动方法：windlass dispatch --workers auto，或 windlass scaler --dispatcher URL。",
  ],
  mode: ["Mode", "模式"],
  sizeWanted: ["Workers → wanted", "当前 → 期望"],
  scalerState: ["State", "状态"],
  action: ["Chosen action", "所选动作"],
  explored: ["exploring", "探索"],
  guards: ["Guards", "护栏"],
  noGuard: ["none", "无"],
  chosen: ["chosen", "所选"],
  noTable: ["This mode has no Q-table.", "此模式没有 Q 表。"],
  qTable: ["Q-table: best action by state (▨ seldom tried, ▢ now)", "Q 表：各状态的最佳动作（▨ 尝试少，▢ 当前）"],
  qValues: ["Q of every action", "各动作的 Q 值"],
  pickState: ["Point at a state for the Q of its actions.", "指向某个状态以查看其各动作的 Q 值。"],
  visits: ["visits", "次尝试"],
  desired: ["desired", "期望"],
  replicas: ["Replicas", "只读副本"],
  wrong: ["What is wrong", "异常"],
  nothingWrong: ["Nothing is wrong", "一切正常"],
  orders: ["Orders", "订单"],
  ordersPerSecond: ["Orders/s", "订单/秒"],
  mean: ["Mean", "均值"],
  min: ["Min", "最小"],
  max: ["Max", "最大"],
  gmv: ["Sales", "成交额"],
  newest: ["Newest window", "最新窗口"],
  age: ["Its age", "窗口距今"],
  lag: ["Replica lag", "副本滞后"],
  lagNote: [
    "≤: the age of the newest stamp that it holds, which is its lag at most. A user with REPLICATION CLIENT (MariaDB: SLAVE MONITOR) is told the lag itself.",
    "≤：其所持最新时间戳的年龄，即滞后的上限。拥有 REPLICATION CLIENT（MariaDB 为 SLAVE MONITOR）权限的用户可获知实际滞后。",
  ],
  late: ["Late", "迟到"],
  quarantined: ["Quarantined", "隔离"],
  open: ["Open windows", "未关闭窗口"],
  connecting: ["connecting…", "连接中…"],
  connected: ["live", "实时"],
  lost: ["connection lost", "连接中断"],
  silent: ["no news", "无新消息"],
  replaying: ["replay", "回放"],
  since: ["since", "自"],
  corrected: ["late orders corrected", "迟到订单修正"],
  offMap: ["not on the map", "不在地图上"],
  busy: ["busy", "忙"],
  idle: ["idle", "空闲"],
  size: ["size", "规模"],
  ready: ["ready", "待取"],
  unacked: ["unacknowledged", "未确认"],
  waitingFor: ["batches waiting", "等待批次"],
  inFlight: ["in flight", "执行中"],
  windowP50: ["window p50", "窗口 p50"],
  windowP99: ["window p99", "窗口 p99"],
  callP50: ["call p50", "调用 p50"],
  callP99: ["call p99", "调用 p99"],
  server: ["Server", "服务器"],
  state: ["State", "状态"],
  commits: ["Commits", "提交"],
  fine: ["read in turn", "轮流读取"],
  skipped: ["skipped", "已跳过"],
  pick: ["Point at a province or choose one in the ranking", "指向省份或在排行中选择"],
  failed: ["The past could not be read", "无法读取历史"],
} as const;

export type Word = keyof typeof WORDS;

/** What the scaler's states are made of, in Chinese, by the names that its tables give. */
const AXES: Record<string, string> = { load: "负载", trend: "趋势", backlog: "积压", volatility: "波动", utilization: "利用率", demand: "需求" };

/** How times are written. */
export const locale = (language: string): string => (language === "zh" ? "zh-CN" : "en-GB");

/** How shortened numbers are written: British ones would read 1.2m. */
export const units = (language: string): string => (language === "zh" ? "zh-CN" : "en");

/** Sets text in which no flag of a command is broken at its hyphens. */
export function tell(element: HTMLElement, text: string): void {
  const parts = text.split(/(--[a-z-]+)/);
  element.replaceChildren(...parts.map((part, at) => (at % 2 ? Object.assign(document.createElement("span"), { className: "flag", textContent: part }) : part)));
}

export function say(word: Word, language: string): string {
  return WORDS[word][language === "zh" ? 1 : 0];
}

/** An axis of the scaler's table; one that only a newer page knows keeps the name it was given. */
export const axisName = (name: string, language: string): string => (language === "zh" && AXES[name]) || name;
