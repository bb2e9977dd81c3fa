// The state of the fleet as one would say it to somebody who has just been woken. Pure.

import { count, plural, short, span } from "./format.js";
import { brief } from "./drains.js";
import { LATELY_MS, missing, succession } from "./succession.js";

// What the headline needs to know beside the counts.
export function situation(workers, drains, at) {
  const found = { lost: [], replaced: [], silent: [], drained: 0, notBack: [], earlier: 0, lastBefore: null, unclean: [], lately: 0, slowest: null };
  for (const worker of workers) {
    if (worker.state === "silent") found.silent.push(worker);
    if (worker.state === "lost" && !(worker.sinceAt >= at - LATELY_MS)) {
      found.earlier += 1;
      found.lastBefore = Math.max(found.lastBefore ?? 0, worker.sinceAt);
    }
    if (worker.state === "draining" && (!found.slowest || worker.sinceAt < found.slowest.sinceAt)) found.slowest = worker;
  }
  for (const { worker, successor } of missing(succession(workers, at))) {
    if (worker.state === "lost") (successor ? found.replaced : found.lost).push(worker);
    else {
      found.drained += 1;
      if (!successor) found.notBack.push(worker);
    }
  }
  for (const drain of drains) {
    if (drain.endAt === null || drain.endAt < at - LATELY_MS) continue;
    found.lately += 1;
    if (drain.outcome !== "clean") found.unclean.push(drain);
  }
  return found;
}

const are = (number, word) => `${count(number)} ${number === 1 ? "is" : "are"} ${word}`;

export function listed(clauses) {
  if (clauses.length < 2) return clauses.join("");
  return `${clauses.slice(0, -1).join(", ")} and ${clauses.at(-1)}`;
}

const sentence = (clauses) => (clauses.length ? `${listed(clauses)}.` : "");
const joined = (...sentences) => sentences.filter(Boolean).join(" ");

// The headline, what stands below it, and whether it alarms: "lost", "silent", "unclean" or not at all.
export function verdict(states, facts, at) {
  const total = Object.values(states).reduce((sum, number) => sum + number, 0);
  const present = total - states.stopped - states.lost;
  const others = ["draining", "starting", "paused", "silent"].filter((state) => states[state]).map((state) => are(states[state], state));
  const running = are(states.running, "running");
  if (total === 0) return { title: "No worker has reported yet.", more: "The fleet program is listening." };
  if (states.running === 0) {
    const ended = states.stopped && !present ? `${plural(states.stopped, "worker")} stopped with a report.` : "";
    return { title: "No worker is running.", more: joined(sentence(others), "Nothing takes deliveries.", ended, latest(facts, at), gone(facts, at)), alarm: "lost" };
  }
  if (facts.lost.length || facts.silent.length) {
    const lost = facts.lost.length ? `${plural(facts.lost.length, "worker")} lost in the last hour` : "";
    const silent = facts.silent.length ? `${lost ? count(facts.silent.length) : plural(facts.silent.length, "worker")} silent` : "";
    const rest = others.filter((clause) => !clause.endsWith("silent"));
    return { title: `${[lost, silent].filter(Boolean).join(" and ")}.`, more: joined(sentence([...rest, running]), latest(facts, at), back(facts), unclean(facts)), alarm: lost ? "lost" : "silent" };
  }
  if (states.draining) {
    const title = `${count(states.draining)} of ${plural(present, "worker")} ${states.draining === 1 ? "is" : "are"} draining.`;
    const rest = others.filter((clause) => !clause.endsWith("draining"));
    return { title, more: joined(sentence([...rest, running]), slowest(facts, at), back(facts), unclean(facts), gone(facts, at)), alarm: facts.unclean.length ? "unclean" : undefined };
  }
  if (facts.notBack.length) {
    const title = `${count(facts.drained - facts.notBack.length)} of ${count(facts.drained)} drained workers ${facts.drained - facts.notBack.length === 1 ? "is" : "are"} back.`;
    return { title, more: joined(sentence([...others, running]), absent(facts, at), unclean(facts), gone(facts, at)), alarm: "silent" };
  }
  const all = states.running === present;
  const title = !all ? `${count(states.running)} of ${plural(present, "worker")} ${states.running === 1 ? "is" : "are"} running.` : present === 1 ? "The one worker is running." : `All ${count(present)} workers are running.`;
  if (facts.unclean.length) return { title: uncleanTitle(facts), more: joined(all ? title : sentence([...others, running]), harm(facts), gone(facts, at)), alarm: "unclean" };
  const rolled = facts.drained ? `${plural(facts.drained, "worker")} drained in the last hour and ${facts.drained === 1 ? "is" : "are all"} back.` : all ? "Nothing drains." : "";
  return { title, more: joined(sentence(others), rolled, gone(facts, at) || "Nothing is lost.") };
}

// Losses that are no alarm any more.
function gone(facts, at) {
  const said = [];
  if (facts.replaced.length) {
    const names = facts.replaced.length > 2 ? plural(facts.replaced.length, "worker") : listed(facts.replaced.map((worker) => brief(worker.name)));
    said.push(`${names} ${facts.replaced.length === 1 ? "was" : "were"} lost in the last hour and replaced.`);
  }
  if (facts.earlier) said.push(`${plural(facts.earlier, "worker was", "workers were")} lost earlier, the last ${short(at - facts.lastBefore)} ago.`);
  return said.join(" ");
}

function latest({ lost, silent }, at) {
  const last = [...lost, ...silent].reduce((a, b) => (b.sinceAt > (a?.sinceAt ?? -1) ? b : a), null);
  if (!last?.sinceAt) return "";
  return `Last, ${brief(last.name)} ${last.state === "lost" ? "was lost" : "went silent"}, ${short(at - last.sinceAt)} ago.`;
}

function back({ drained, notBack }) {
  if (!drained || !notBack.length) return "";
  return `${count(drained - notBack.length)} of ${count(drained)} drained workers back.`;
}

function absent({ notBack }, at) {
  const last = notBack.at(-1);
  const names = notBack.length > 3 ? plural(notBack.length, "worker") : listed(notBack.map((worker) => brief(worker.name)));
  return `${names} ${notBack.length === 1 ? "has" : "have"} no successor yet; the last ended ${short(at - last.sinceAt)} ago.`;
}

const uncleanTitle = ({ unclean: bad, lately }) => `${count(bad.length)} of ${plural(lately, "drain")} in the last hour ${bad.length === 1 ? "was" : "were"} not clean.`;

const unclean = (facts) => (facts.unclean.length ? `${uncleanTitle(facts)} ${harm(facts)}` : "");

function harm({ unclean: bad }) {
  const sum = (key) => bad.reduce((total, drain) => total + (drain[key] ?? 0), 0);
  const [cut, unsure] = [sum("interrupted"), sum("unconfirmed")];
  const said = [];
  if (cut) said.push(`${plural(cut, "delivery was", "deliveries were")} interrupted`);
  if (unsure) said.push(`${plural(unsure, "settlement is", "settlements are")} unconfirmed`);
  return sentence(said);
}

function slowest({ slowest: slow }, at) {
  if (!slow?.sinceAt) return "";
  const left = slow.deadlineAt === null ? null : slow.deadlineAt - at;
  const deadline = left === null ? "" : left > 0 ? `, ${span(left)} to its deadline` : ", past its deadline";
  return `The longest drain is ${brief(slow.name)}: ${span(at - slow.sinceAt)} so far${deadline}.`;
}

// What the tab says.
export function tab(states, facts) {
  if (states.running === 0 && Object.values(states).some(Boolean)) return "None running";
  const numbers = { lost: facts.lost.length, silent: facts.silent.length, draining: states.draining, "not back": facts.notBack.length };
  const said = Object.entries(numbers).filter(([, number]) => number).map(([word, number]) => `${count(number)} ${word}`);
  return said.length ? said.join(", ") : `${count(states.running)} running`;
}
