"""Writes rows into an SQLite store as the dispatcher would, for cases that no run makes.

seed.py FILE CASE [AGO]  none | one | all | huge | hostile, the newest window AGO seconds ago
seed.py FILE commits N   N commits of a new window each, a line of `unix-ms total` after each
seed.py FILE bulk N      N rows of 34 provinces, by second
seed.py FILE revise      a late order in the last window: +0.01
seed.py FILE boost       an order of ten billion from Zhejiang in the last window
seed.py FILE scaler      a scaler that is alive, in a store that has its tables: its state, a choice
seed.py FILE silent      the same scaler, not heard of for an hour
"""
import calendar, sqlite3, sys, time

PROVINCES = """Anhui Aomen Beijing Chongqing Fujian Gansu Guangdong Guangxi Guizhou Hainan Hebei
Heilongjiang Henan Hubei Hunan Jiangsu Jiangxi Jilin Liaoning Neimenggu Ningxia Qinghai Shaanxi
Shandong Shanghai Shanxi Sichuan Taiwan Tianjin Xianggang Xinjiang Xizang Yunnan Zhejiang""".split()
LIMB = 10**15
path, case = sys.argv[1:3]
db = sqlite3.connect(path, isolation_level=None, timeout=10)


def text(ms):
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(ms // 1000)) + ".%03d" % (ms % 1000)


def limbs(cents):
    return divmod(cents, LIMB)


def order(start, province, count, cents, revision=0):
    hi, lo = limbs(cents)
    least, most = (cents // count, cents // count) if count else (0, 0)
    least, most = min(least, 2**62), min(most, 2**62)
    db.execute(
        "INSERT INTO results VALUES ('orders','gmv',?,?,0,?,?,?,?,?,?) ON CONFLICT DO UPDATE SET orders=orders+excluded.orders,"
        "gmv_hi=gmv_hi+excluded.gmv_hi,gmv_lo=gmv_lo+excluded.gmv_lo,revision=revision+excluded.revision",
        (text(start), province, count, hi, lo, least, most, revision),
    )
    db.execute(
        "INSERT INTO totals VALUES ('orders','gmv',?,0,?,?,?,?,?) ON CONFLICT DO UPDATE SET orders=orders+excluded.orders,"
        "gmv_hi=gmv_hi+excluded.gmv_hi,gmv_lo=gmv_lo+excluded.gmv_lo",
        (province, count, hi, lo, least, most),
    )


def progress(watermark):
    now = text(int(time.time() * 1000))
    db.execute(
        "UPDATE shards SET commit_no=commit_no+1, watermark=?, final_before=?, seen_at=?",
        (text(watermark), text(watermark - 5000), now),
    )


now = int(time.time()) * 1000
if case in ("one", "all", "huge", "hostile") and len(sys.argv) > 3:
    now -= int(sys.argv[3]) * 1000
start = now - 120_000
db.execute("BEGIN IMMEDIATE")
if case in ("one", "all", "huge", "hostile"):
    names = {"one": ["Zhejiang"], "hostile": ["Zhejiang", "<img src=x onerror=alert(1)>", '"><script>alert(2)</script>', "=1+1"]}
    for i, province in enumerate(names.get(case, PROVINCES)):
        for second in range(120):
            cents = (40 - i) * 12_345 + second * 917 + (second * 7919 + i * 104729) % 40_000
            if case == "huge":
                cents = cents * 10**22 + 37
            order(start + second * 1000, province, 40 + i + second % 7, cents, int(second % 31 == 9))
    progress(now)
db.execute("COMMIT")

if case == "commits":
    first = db.execute("SELECT COALESCE(MAX(window_start), ?) FROM results", (text(start),)).fetchone()[0]
    at = calendar.timegm(time.strptime(first[:19], "%Y-%m-%d %H:%M:%S")) * 1000
    for n in range(int(sys.argv[3])):
        at += 1000
        db.execute("BEGIN IMMEDIATE")
        for i, province in enumerate(PROVINCES):
            order(at, province, 3, 1_000 + i * 17 + n)
        progress(at + 1000)
        db.execute("COMMIT")
        total = db.execute("SELECT SUM(gmv_hi), SUM(gmv_lo) FROM totals").fetchone()
        cents = total[0] * LIMB + total[1]
        print(int(time.time() * 1000), "%d.%02d" % divmod(cents, 100), flush=True)
        time.sleep(0.25)
elif case == "revise":
    db.execute("BEGIN IMMEDIATE")
    last = db.execute("SELECT MAX(window_start) FROM results").fetchone()[0]
    db.execute("UPDATE results SET gmv_lo=gmv_lo+1, revision=revision+1 WHERE window_start=? AND item_key='Zhejiang'", (last,))
    db.execute("UPDATE totals SET gmv_lo=gmv_lo+1 WHERE item_key='Zhejiang'")
    db.execute("UPDATE shards SET commit_no=commit_no+1")
    db.execute("COMMIT")
elif case == "boost":
    db.execute("BEGIN IMMEDIATE")
    last = db.execute("SELECT MAX(window_start) FROM results").fetchone()[0]
    order(calendar.timegm(time.strptime(last[:19], "%Y-%m-%d %H:%M:%S")) * 1000, "Zhejiang", 1, 10**12)
    progress(now)
    db.execute("COMMIT")
elif case == "scaler":
    run = text(now - 600_000)
    values = ",".join(f"κ×{share}={q}" for share, q in [("1.00", -0.4034), ("0.85", -0.3879), ("0.70", -0.3566), ("0.57", -0.3489), ("0.46", -0.3652)])
    of = ("orders", "gmv")
    db.execute("INSERT INTO scaler_state VALUES (?,?,?,?,'host-7','local workers','elastic',3,'mode: elastic',NULL,NULL,0,4,?)",
               (*of, text(int(time.time() * 1000) + 3_600_000), run, "4 → 6: chooses κ×0.57 at 6120 tuples/s, a demand of 5.2 and 0.04 s of backlog"))
    db.execute("INSERT INTO scaler_decisions VALUES (?,?,?,?,1,3,'elastic',4,6,'agent','4 → 6',17,'1,1,1',?,'κ×0.57',0,'max',NULL,NULL,'null','')",
               (*of, text(now - 5_000), run, values))
    db.execute("INSERT INTO scaler_decisions VALUES (?,?,?,?,2,3,'elastic',4,7,'guard','4 → 7',NULL,NULL,NULL,NULL,NULL,'every-second',NULL,NULL,'null','')",
               (*of, text(now - 1_000), run))
elif case == "silent":
    db.execute("UPDATE scaler_state SET at=?", (text(now - 3_600_000),))
elif case == "bulk":
    rows = int(sys.argv[3])
    seconds = rows // len(PROVINCES)
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN IMMEDIATE")
    first = now - seconds * 1000
    db.executemany(
        "INSERT INTO results VALUES ('orders','gmv',?,?,0,5,0,?,100,9000,0)",
        ((text(first + s * 1000), p, 5_000 + i) for s in range(seconds) for i, p in enumerate(PROVINCES)),
    )
    progress(now)
    db.execute("COMMIT")
    print(first)
