import asyncio, time, json, psycopg, psutil, statistics, os
from pathlib import Path
from urllib.parse import urlsplit
from serving import Serving, fresh_database
from engine.postgres.migrate import migrate
N=int(os.environ.get("N","200")); RATE=int(os.environ.get("RATE","50")); SECS=8
def test_bench(server_url, tmp_path):
    with fresh_database(server_url) as url:
        s = Serving(url, tmp_path/"p", nodes=1, sse_timeout=600)
        asyncio.run(migrate(url, stream_id=s.stream_id))
        with s:
            asyncio.run(go(s,url))
async def go(s,url):
    lat=[]
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as con:
        await con.execute("select pgtide.append('b/0','{}'::jsonb)")
        host=urlsplit(s.url)
        async def reader():
            r,w=await asyncio.open_connection(host.hostname, host.port)
            w.write(b"GET /v1/stream/b/0?offset=now&live=sse HTTP/1.1\r\nhost: x\r\n\r\n")
            buf=b""
            while True:
                d=await r.read(65536)
                if not d: return
                now=time.time()
                i=0
                while (i:=d.find(b'"t":',i))>=0:
                    j=d.index(b",",i); lat.append(now-float(d[i+4:j])); i=j
        tasks=[asyncio.create_task(reader()) for _ in range(N)]
        await asyncio.sleep(1.5)
        node=psutil.Process(s.node_pids()[0]); eng=psutil.Process(s.engine_pids()[0])
        def cpu(p): t=p.cpu_times(); return t.user+t.system
        c0,e0=cpu(node),cpu(eng); await asyncio.sleep(2); idle=(cpu(node)-c0)/2
        c0,e0=cpu(node),cpu(eng); t0=time.time(); n=0
        while (now:=time.time())<t0+SECS:
            await con.execute("select pgtide.append('b/0',%s::jsonb)", (json.dumps({"token":"hello world","t":time.time()}),))
            n+=1
            await asyncio.sleep(max(t0+n/RATE-time.time(),0))
        await asyncio.sleep(0.3)
        used=cpu(node)-c0-idle*SECS
        lat.sort()
        print(f"\nidle {idle*100:.1f}% appends {n} deliveries {len(lat)} us/delivery {used/len(lat)*1e6:.1f} engine us/append {(cpu(eng)-e0)/n*1e6:.0f} p50 {lat[len(lat)//2]*1e3:.1f} p99 {lat[int(len(lat)*.99)]*1e3:.1f} ms load {os.getloadavg()}")
        print("done", flush=True); os._exit(0)
