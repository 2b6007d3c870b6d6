// Signs in with a token, and goes on to the page. The browser keeps a session's cookie, which scripts cannot read, and not the token.

const $ = (id) => document.getElementById(id);

/** The page with the part of the address that says what it shows, which stays in the browser. */
const goOn = () => location.replace(`/${location.hash}`);

async function signIn(event) {
  event.preventDefault();
  $("submit").disabled = true;
  $("note").textContent = "";
  try {
    const response = await fetch("/api/session", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ token: $("token").value }),
    });
    const body = await response.json();
    if (response.ok) return goOn();
    $("note").textContent = body.remedy ? `${body.detail} (${body.remedy})` : body.detail;
    $("token").select();
  } catch {
    $("note").textContent = "the dashboard does not answer (check that it is running)";
  } finally {
    $("submit").disabled = false;
  }
}

$("form").addEventListener("submit", signIn);
// Somebody who is signed in already, or a dashboard without a login.
fetch("/api/session").then((response) => response.ok && goOn(), () => {});
