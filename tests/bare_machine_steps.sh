# shellcheck shell=bash
# What happens inside the bare machine of bare_machine.sh: a fresh clone, then each argument as one command in it.
# After each `make demo` every URL that it printed is asked who answers; after the next one each must answer from
# the other colour, with the next run's number.
set -euo pipefail

# who_answers OUTPUT BEFORE: writes "URL RUN COMMIT COLOUR" lines and judges them against the demo's before.
who_answers() {
  python3 - "$@" <<'PYTHON'
import json, pathlib, re, subprocess, sys, urllib.request

output, before = (pathlib.Path(name) for name in sys.argv[1:])
head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
urls = list(dict.fromkeys(re.findall(r"http://127\.0\.0\.1:\d+", output.read_text())))
answers = {url: json.load(urllib.request.urlopen(url, timeout=5)) for url in urls}
for url, said in answers.items():
    print(f"{url} answers: run {said['run']}, commit {said['commit']}, {said['colour']}")
wrong = [f"{url}: commit {said['commit']} is not {head}" for url, said in answers.items()
         if not said["commit"] or not head.startswith(said["commit"])]
if len(urls) != 2:
    wrong.append(f"two URLs expected, found {urls}")
if before.exists():
    for url, was in json.loads(before.read_text()).items():
        now = answers.get(url, {"run": "nothing", "colour": "nothing"})
        if {was["colour"], now["colour"]} != {"blue", "green"}:
            wrong.append(f"{url}: {now['colour']} after {was['colour']}")
        if now["run"] != str(int(was["run"]) + 1):
            wrong.append(f"{url}: run {now['run']} after run {was['run']}")
before.write_text(json.dumps(answers))
sys.exit("\n".join(wrong) or None)
PYTHON
}

git clone --quiet /srv/pipewright.git /root/pipewright
cd /root/pipewright
for step; do
  printf '\n── %s\n' "$step"
  began=$SECONDS
  status=0
  bash -c "$step" 2>&1 | tee /root/output || status=$?
  printf '── %s: exit code %d after %d s\n' "$step" "$status" $((SECONDS - began))
  [ "$status" -eq 0 ] || exit "$status"
  [ "$step" != 'make demo' ] || who_answers /root/output /root/answers
done
