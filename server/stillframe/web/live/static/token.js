// The token of this tab, and requests that carry it. Knows no route.

const KEY = "stillframe-token";

/** A response that is no success, with the problem document (RFC 9457) that the daemon answered. */
export class Refused extends Error {
  constructor(response, problem) {
    super(problem.detail ?? `The daemon answered ${response.status}.`);
    this.status = response.status;
    this.waitMs = 1000 * Number(response.headers.get("Retry-After") ?? 0);
  }
}

/** GET a path relative to the page. Asks for a token as often as the daemon does; throws Refused for other failures. */
export async function get(path, { signal } = {}) {
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const response = await fetch(path, { headers, signal, cache: "no-store" });
    if (response.ok) return response;
    const refused = new Refused(response, await response.json().catch(() => ({})));
    if (response.status !== 401) throw refused;
    await askToken(token ? refused.message : "Its operator has one for you, made by `stillframe token`.");
  }
}

let asking = null; // several requests share one question

function askToken(reason) {
  asking ??= new Promise((answered) => {
    const dialog = document.getElementById("token-dialog");
    const input = document.getElementById("token");
    document.getElementById("token-reason").textContent = reason;
    input.value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    document.getElementById("token-form").onsubmit = (event) => {
      event.preventDefault();
      if (!/^[\x21-\x7e]+$/.test(input.value.trim())) return;
      sessionStorage.setItem(KEY, input.value.trim());
      input.value = "";
      dialog.close();
      asking = null;
      answered();
    };
    dialog.showModal();
  });
  return asking;
}
