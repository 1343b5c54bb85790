/** China's 34 provincial-level divisions: as orders name them, in English, in Chinese as the outlines do. */
const NAMES: [string, string, string][] = [
  ["Anhui", "Anhui", "安徽"], ["Aomen", "Macao", "澳门"], ["Beijing", "Beijing", "北京"],
  ["Chongqing", "Chongqing", "重庆"], ["Fujian", "Fujian", "福建"], ["Gansu", "Gansu", "甘肃"],
  ["Guangdong", "Guangdong", "广东"], ["Guangxi", "Guangxi", "广西"], ["Guizhou", "Guizhou", "贵州"],
  ["Hainan", "Hainan", "海南"], ["Hebei", "Hebei", "河北"], ["Heilongjiang", "Heilongjiang", "黑龙江"],
  ["Henan", "Henan", "河南"], ["Hubei", "Hubei", "湖北"], ["Hunan", "Hunan", "湖南"],
  ["Jiangsu", "Jiangsu", "江苏"], ["Jiangxi", "Jiangxi", "江西"], ["Jilin", "Jilin", "吉林"],
  ["Liaoning", "Liaoning", "辽宁"], ["Neimenggu", "Inner Mongolia", "内蒙古"], ["Ningxia", "Ningxia", "宁夏"],
  ["Qinghai", "Qinghai", "青海"], ["Shaanxi", "Shaanxi", "陕西"], ["Shandong", "Shandong", "山东"],
  ["Shanghai", "Shanghai", "上海"], ["Shanxi", "Shanxi", "山西"], ["Sichuan", "Sichuan", "四川"],
  ["Taiwan", "Taiwan", "台湾"], ["Tianjin", "Tianjin", "天津"], ["Xianggang", "Hong Kong", "香港"],
  ["Xinjiang", "Xinjiang", "新疆"], ["Xizang", "Xizang", "西藏"], ["Yunnan", "Yunnan", "云南"],
  ["Zhejiang", "Zhejiang", "浙江"],
];
const ENGLISH = new Map<string, string>();
const CHINESE = new Map<string, string>();
for (const [key, english, chinese] of NAMES) {
  for (const name of [key, english, chinese]) {
    ENGLISH.set(name, english);
    CHINESE.set(name, chinese);
  }
}

/** The name of the province's outline, if it has one. */
export const outline = (province: string): string | undefined => CHINESE.get(province);

/** A province in words of a language; a name that nobody knows stays as it is. */
export function named(province: string, language: string): string {
  return (language === "zh" ? CHINESE : ENGLISH).get(province) ?? province;
}
