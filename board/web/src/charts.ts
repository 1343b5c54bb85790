import { LineChart, MapChart } from "echarts/charts";
import { GridComponent, LegendComponent, VisualMapComponent } from "echarts/components";
import { type EChartsType, init, registerMap, use } from "echarts/core";
import { CanvasRenderer } from "echarts/renderers";
import outlines from "china-outlines/map/json/china.json";
import { compact, hundredths, power } from "./money";
import { outline } from "./names";
import type { Sales, Window } from "./types";
import { units } from "./words";

use([LineChart, MapChart, GridComponent, LegendComponent, VisualMapComponent, CanvasRenderer]);
registerMap("china", outlines as never);

/** A colour of the theme in force. */
const colour = (name: string) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const short = (value: number, language: string) =>
  Math.abs(value) < 1e15 ? new Intl.NumberFormat(units(language), { notation: "compact" }).format(value) : power(value, 1);
/** Text of charts grows with the page's, which is larger on a wall. */
const small = () => Math.round(parseFloat(getComputedStyle(document.documentElement).fontSize) * 0.78);
const clock = (ms: number) => new Date(ms).toLocaleTimeString("en-GB");
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Draws in a box when the box has a size, and again when that changes. */
class Chart {
  protected readonly chart: EChartsType;
  constructor(protected readonly box: HTMLElement) {
    this.chart = init(box, null, { renderer: "canvas" });
    new ResizeObserver(() => this.fits()).observe(box);
  }

  /** Whether there is something to draw in: a hidden box has no size. The chart takes the box's. */
  protected fits(): boolean {
    const { clientWidth: width, clientHeight: height } = this.box;
    if (width === 0 || height === 0) return false;
    if (width !== this.chart.getWidth() || height !== this.chart.getHeight()) this.chart.resize();
    return true;
  }
}

export class ChinaMap extends Chart {
  private rows = new Map<string, Sales>();

  constructor(box: HTMLElement, pointed: (province: string) => void, chosen: (province: string) => void) {
    super(box);
    // An outline without sales is known by its own name only.
    const province = (name: string) => this.rows.get(name)?.province ?? name;
    this.chart.on("mouseover", (event) => pointed(province(event.name)));
    this.chart.on("click", (event) => chosen(province(event.name)));
  }

  draw(sales: Sales[], chosen: string | null, language: string): void {
    this.rows = new Map();
    for (const row of sales) {
      const name = outline(row.province);
      if (name) this.rows.set(name, row);
    }
    if (!this.fits()) return;
    const data = [...this.rows].map(([name, row]) => ({ name, value: Number(hundredths(row.gmv)) / 100 }));
    // Sales are skewed: on a root scale the small provinces can still be told apart.
    const scaled = data.map(({ name, value }) => ({ name, value: Math.sqrt(Math.max(0, value)) }));
    const marked = chosen === null ? undefined : (outline(chosen) ?? chosen);
    const mark = { borderColor: colour("--revised"), borderWidth: 2.5 };
    const most = Math.max(1, ...scaled.map((item) => item.value));
    const leader = [...this.rows.values()].reduce<Sales | null>((a, b) => (a && Number(a.gmv) >= Number(b.gmv) ? a : b), null);
    const ends = leader ? [compact(leader.gmv, units(language), 8), "0"] : [];
    this.chart.setOption({
      animation: !still,
      animationDurationUpdate: 300,
      visualMap: {
        show: leader !== null,
        orient: "horizontal",
        left: 0,
        bottom: 0,
        itemWidth: 10,
        itemHeight: small() * 7,
        padding: 0,
        text: ends,
        textStyle: { color: colour("--soft"), fontSize: small() },
        hoverLink: false,
        min: 0,
        max: most,
        inRange: { color: [colour("--map-low"), colour("--map-mid"), colour("--map-high")] },
      },
      series: [
        {
          type: "map",
          map: "china",
          roam: false,
          selectedMode: false,
          layoutCenter: ["50%", "50%"],
          layoutSize: this.box.clientWidth > this.box.clientHeight * 1.25 ? "118%" : "98%",
          data: scaled.map((item) => (item.name === marked ? { ...item, itemStyle: mark } : item)),
          itemStyle: { areaColor: colour("--map-none"), borderColor: colour("--map-line"), borderWidth: 0.8 },
          emphasis: { label: { show: false }, itemStyle: { areaColor: colour("--accent") } },
        },
      ],
    });
  }
}

const axis = () => ({
  axisLine: { lineStyle: { color: colour("--line") } },
  axisLabel: { color: colour("--soft"), hideOverlap: true, fontSize: small() },
  splitLine: { lineStyle: { color: colour("--line") } },
});

export class Seconds extends Chart {
  draw(windows: Window[], end: number | null, language: string): void {
    if (!this.fits()) return;
    const last = end ?? windows.at(-1)?.start ?? Date.now();
    this.chart.setOption({
      animation: false,
      grid: { left: 8, right: 12, top: 12, bottom: 4, containLabel: true },
      xAxis: {
        type: "time",
        min: last - 299_000,
        max: last,
        ...axis(),
        splitNumber: 4,
        splitLine: { show: false },
        axisLabel: { ...axis().axisLabel, formatter: clock },
      },
      yAxis: { type: "value", splitNumber: 3, ...axis(), axisLabel: { ...axis().axisLabel, formatter: (value: number) => short(value, language) } },
      series: [
        {
          type: "line",
          showSymbol: true,
          showAllSymbol: true,
          lineStyle: { color: colour("--accent"), width: 2 },
          itemStyle: { color: colour("--revised") },
          areaStyle: { color: colour("--accent"), opacity: 0.18 },
          // A second that is still being counted would look like a fall.
          data: windows.filter((window) => window.start <= last).map((window) => ({
            value: [window.start, Number(hundredths(window.gmv)) / 100],
            symbol: window.revision > 0 ? "diamond" : "none",
            symbolSize: 7,
          })),
        },
      ],
    });
  }
}

/** About how wide the legend is in one line, pixels. */
function legend(lines: Line[]): number {
  const letters = (name: string) => [...name].reduce((all, letter) => all + (letter > "\u2e80" ? 1 : 0.54), 0);
  return lines.reduce((all, line) => all + 28 + letters(line.name) * small(), 0);
}

export interface Line {
  name: string;
  points: [number, number][];
  /** Drawn over the others, which stay visible beneath. */
  dashed?: boolean;
}

export class Lines extends Chart {
  draw(lines: Line[], language: string): void {
    if (!this.fits()) return;
    const last = lines[0]?.points.at(-1)?.[0] ?? 0;
    const colours = ["--accent", "--second", "--revised", "--third"].map(colour);
    this.chart.setOption({
      animation: false,
      color: colours,
      legend: { top: 0, left: 8, itemWidth: 14, icon: "roundRect", itemHeight: 4, textStyle: { color: colour("--text"), fontSize: small() } },
      // A narrow box breaks the legend into two lines.
      grid: { left: 8, right: 12, top: legend(lines) > this.box.clientWidth - 16 ? 62 : 40, bottom: 4, containLabel: true },
      xAxis: {
        type: "time",
        min: last - 299_000,
        max: last,
        ...axis(),
        splitNumber: 4,
        splitLine: { show: false },
        axisLabel: { ...axis().axisLabel, formatter: clock },
      },
      yAxis: { type: "value", min: 0, minInterval: 1, splitNumber: 3, ...axis(), axisLabel: { ...axis().axisLabel, formatter: (value: number) => short(value, language) } },
      series: lines.map((line) => ({ type: "line", name: line.name, showSymbol: false, z: line.dashed ? 3 : 2, lineStyle: { width: 2, type: line.dashed ? "dashed" : "solid" }, data: line.points })),
    });
  }
}
