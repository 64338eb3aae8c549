// Fetches this page again and replaces the parts that changed: no flicker, open details stay open, a selection stays.
const REFRESH_MS = 3000;

function replaced(fresh) {
  const old = document.getElementById(fresh.id);
  if (!old) return;
  const open = [...old.querySelectorAll("details")].map((details) => details.open);
  fresh.querySelectorAll("details").forEach((details, index) => (details.open = open[index]));
  if (old.outerHTML !== fresh.outerHTML) old.replaceWith(document.importNode(fresh, true));
}

async function update() {
  if (document.hidden || !getSelection().isCollapsed) return;
  try {
    const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(REFRESH_MS) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    document.title = fresh.title;
    fresh.querySelectorAll("[data-part]").forEach(replaced);
    document.body.classList.remove("lost");
  } catch {
    document.body.classList.add("lost");
  }
}

async function run() {
  await update();
  setTimeout(run, REFRESH_MS);
}

document.addEventListener("visibilitychange", update);
setTimeout(run, REFRESH_MS);
