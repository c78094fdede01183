// Keeps the page fresh, and lets the sliders answer at once. Without it the page loads itself again, and time travel is a page of its own.
"use strict";
{
  const byId = (id) => document.getElementById(id);
  // parts that have come while the pointer or the focus is in the old ones
  const held = new Map();

  const isUsed = (element) => {
    const focus = document.activeElement;
    return element.matches(":hover") && element.querySelector(".hit:hover, td:hover, .node:hover") !== null
      || focus !== null && focus !== document.body && element.contains(focus);
  };

  const put = (id, html) => {
    const element = byId(id);
    if (element === null) return;
    if (isUsed(element)) {
      held.set(id, html);
      return;
    }
    held.delete(id);
    const scrolled = [...element.querySelectorAll(".wide")].map((wide) => [wide.scrollLeft, wide.scrollTop]);
    element.innerHTML = html;
    element.querySelectorAll(".wide").forEach((wide, place) => {
      if (scrolled[place] !== undefined) [wide.scrollLeft, wide.scrollTop] = scrolled[place];
    });
    if (id !== "head") return;
    lengthen();
    // it was loaded before the job was open, and knows no query yet
    const queries = document.querySelector("#travel-form select");
    const state = document.querySelector("[data-id=state]");
    if (queries !== null && queries.options.length === 0 && ["running", "idle", "catching up"].includes(state?.dataset.value)) {
      location.reload();
    }
  };

  setInterval(() => held.forEach((html, id) => put(id, html)), 500);

  // The sliders reach as far as the newest batch does; one that stood at the end stays there.
  const lengthen = () => {
    const mark = document.querySelector("[data-id=high-water-mark]");
    if (mark === null) return;
    document.querySelectorAll("#travel-form input[type=range]").forEach((slider) => {
      const stood = slider.value === slider.max && slider.name === "batch" && byId("travelled").childElementCount === 0;
      slider.max = mark.dataset.value;
      if (stood) slider.value = slider.max;
      tell(slider);
    });
  };

  const tell = (slider) => {
    slider.parentElement.querySelector("output").textContent = slider.value;
  };

  // One question at a time; of those that come meanwhile the newest.
  let asking = false;
  let wanted = null;
  const travel = async () => {
    wanted = new URLSearchParams(new FormData(byId("travel-form"))).toString();
    if (asking) return;
    asking = true;
    while (wanted !== null) {
      const query = wanted;
      wanted = null;
      try {
        const answer = await fetch("/page/travel?" + query);
        if (answer.ok) byId("travelled").innerHTML = await answer.text();
      } catch {
        // the job has ended, and the page with it: what is shown stays
      }
    }
    asking = false;
  };

  const form = byId("travel-form");
  if (form !== null) {
    form.hidden = false;
    form.querySelector("button").hidden = true;
    form.addEventListener("input", (event) => {
      if (event.target.type === "range") tell(event.target);
      travel();
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      travel();
    });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.see");
    // another tab has a page of its own for it
    if (link === null || form === null || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    const chosen = new URL(link.href).searchParams;
    form.elements.query.value = chosen.get("query");
    form.elements.batch.value = chosen.get("batch");
    tell(form.elements.batch);
    travel();
    // what has the focus is not replaced
    link.blur();
    byId("travel").scrollIntoView({ block: "start" });
  });

  // Only a page that is looked at is kept fresh.
  let events = null;
  let over = false;
  const take = (event) => {
    document.body.classList.remove("stale");
    Object.entries(JSON.parse(event.data)).forEach(([id, html]) => put(id, html));
  };
  const connect = () => {
    if (over || document.hidden === (events === null)) return;
    if (document.hidden) {
      events.close();
      events = null;
      return;
    }
    events = new EventSource("/page/events?results=1");
    events.addEventListener("parts", take);
    events.addEventListener("last", (event) => {
      take(event);
      over = true;
      events.close();
    });
    events.addEventListener("error", () => {
      document.body.classList.add("stale");
      // what stands there is as of then; the answer that comes next replaces this, too
      const state = document.querySelector("[data-id=state]");
      if (state !== null && state.dataset.value !== "no answer") {
        state.dataset.value = "no answer";
        state.textContent = `no answer since ${new Date().toLocaleTimeString()}`;
      }
      // refused, and so not tried again by itself
      if (events !== null && events.readyState === EventSource.CLOSED) {
        events = null;
        setTimeout(connect, 5000);
      }
    });
  };
  document.addEventListener("visibilitychange", connect);
  connect();
}
