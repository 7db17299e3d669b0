// The log-in form.

import { call } from "./api.js";
import { find, problem } from "./dom.js";

/** Show why, and call `done` once somebody has logged in. */
export function signIn(why, done) {
  const form = find("login");
  find("login-why").textContent = why;
  find("login-why").hidden = !why;
  find("login-problem").replaceChildren();
  form.reset();
  form.elements.user.focus();
  form.onsubmit = async (event) => {
    event.preventDefault();
    const { user, password } = Object.fromEntries(new FormData(form));
    find("login-problem").replaceChildren();
    try {
      await call("POST", "/session", { json: { user, password } });
      form.reset();
      done();
    } catch (error) {
      find("login-problem").replaceChildren(problem(error));
      form.elements.password.select();
    }
  };
}
