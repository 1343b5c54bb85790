import type { Trouble } from "./types";
import { locale, say } from "./words";

/** What a trouble of a kind is about, in Chinese. */
const SUBJECTS: Record<string, string> = {
  "replica": "副本 {subject}：",
  "replication": "副本 {subject}：",
  "dispatcher": "调度器 {subject}：",
  "shard": "分片 {subject}：",
};

/**
 * What is wrong, in Chinese, by the cause that the server names; it says so itself in English. `{0}` is
 * the first figure. What others said, a database or a broker, follows in their own words.
 */
const CAUSES: Record<string, string> = {
  "replica-lags": "比最新副本落后 {0} 次提交、{1} 毫秒：复制是否在运行？",
  "replica-failed": "无法读取",
  "replication": "复制未在运行",
  "no-replica": "存储：没有副本应答",
  "store-restored": "存储：其提交数少于此处已显示的：是否从备份恢复过？重启看板即可显示",
  "store-unread": "存储无法读取",
  "dispatcher-untrusted": "其证书不受信任",
  "dispatcher-silent": "2 秒内没有应答",
  "dispatcher-gone": "该地址无人监听",
  "dispatcher-forbidden": "应答 {0}：令牌是否正确？",
  "dispatcher-status": "应答 {0}",
  "dispatcher-foreign": "应答不是 windlass 的状态",
  "shard": "出现故障",
  "halted": "不再派发批次",
  "jobs": "不再创建 Job",
  "scaler-unread": "伸缩器：无法读取其数据行",
  "scaler-refused": "伸缩器：对其调参的修改被拒绝",
  "stale": "数据流：已 {0} 秒没有动静",
  "quarantine": "隔离区：最近一分钟增加 {0}",
};

/** What is wrong with a trouble's subject; null in English, and for what only a newer page knows. */
export function complaint(it: Trouble, language: string): string | null {
  const known = language === "zh" ? CAUSES[it.cause] : undefined;
  if (known === undefined) return null;
  const text = known.replace(/\{(\d)\}/g, (_, at: string) => String(it.figures[Number(at)] ?? ""));
  return it.detail ? `${text}（${it.detail}）` : text;
}

function sentence(it: Trouble, language: string): string {
  const what = complaint(it, language);
  if (what === null) return it.text;
  return (SUBJECTS[it.kind] ?? "").replace("{subject}", () => it.subject) + what;
}

/** What is wrong, and since when. */
export function trouble(it: Trouble, language: string): HTMLElement {
  const since = new Date(it.since).toLocaleTimeString(locale(language));
  return Object.assign(document.createElement("li"), { textContent: `${sentence(it, language)} (${say("since", language)} ${since})` });
}
