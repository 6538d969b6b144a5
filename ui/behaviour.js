// Citations select their card, copy buttons copy, and a chosen paper scrolls into view.
(() => {
  const behaviour = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  // Opens the card of a citation; its abstract scrolls to the evidence of the sentence.
  const select = (card, at) => {
    for (const other of document.querySelectorAll(".card.selected")) other.classList.remove("selected");
    card.open = true;
    card.classList.add("selected");
    reveal(card, at);
    card.scrollIntoView({ block: "nearest", behavior: behaviour() });
    card.querySelector("summary").focus({ preventScroll: true });
  };

  const reveal = (card, at) => {
    const box = card.querySelector(".abstract");
    const marks = [...card.querySelectorAll("mark")];
    const here = marks.find((mark) => mark.dataset.at === at) ?? marks[0];
    for (const mark of marks) mark.classList.toggle("here", mark === here);
    if (here) box.scrollTop = here.offsetTop - (box.clientHeight - here.offsetHeight) / 2;
  };

  // The reason at a sentence: one at a time, on hover and focus, inside the window; Escape hides it.
  const explain = (sentence) => {
    for (const other of document.querySelectorAll(".explained")) other.classList.remove("explained");
    const tip = sentence?.querySelector('[role="tooltip"]');
    if (!tip) return;
    sentence.classList.add("explained");
    tip.style.setProperty("--shift", "0px");
    const { left, right } = tip.getBoundingClientRect();
    const shift = Math.max(14 - left, 0) || Math.min(document.documentElement.clientWidth - 14 - right, 0);
    tip.style.setProperty("--shift", `${shift}px`);
  };
  for (const event of ["pointerover", "focusin"])
    document.addEventListener(event, ({ target }) => {
      const sentence = target.closest?.(".sentence");
      if (sentence && !target.closest("a.cite")) explain(sentence);
      else if (event === "focusin" || !document.activeElement?.matches(".flag")) explain(null);
    });

  const copy = async (button) => {
    const text = button.dataset.copy;
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const area = Object.assign(document.createElement("textarea"), { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    const label = button.textContent;
    button.textContent = "Copied";
    button.setAttribute("aria-live", "polite");
    setTimeout(() => (button.textContent = label), 1500);
  };

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a.cite");
    const button = event.target.closest("[data-copy]");
    if (link) {
      event.preventDefault();
      const card = document.getElementById(link.hash.slice(1));
      if (card) select(card, link.dataset.at);
    } else if (button) copy(button);
  });

  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.(".card[open]:not(.selected)")) reveal(event.target);
  }, true);

  // "/" goes to the question.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape") explain(null);
    else if (event.key === "/" && !typing) {
      event.preventDefault();
      document.querySelector("#question textarea")?.focus();
    }
  });

  // A new question scrolls into view; the page then stays still while the answer grows. An answer that came at once
  // scrolls into view when it is done.
  let live = null;
  let count = 0;
  new MutationObserver(() => {
    const before = live;
    live = document.querySelector("#live .turn");
    if (live && !before) live.scrollIntoView({ block: "start" });
    const turns = document.querySelectorAll("#thread .turn");
    if (turns.length > count) {
      const { top, bottom } = turns[turns.length - 1].getBoundingClientRect();
      if (top > innerHeight / 2 || bottom < 0) turns[turns.length - 1].scrollIntoView({ block: "start" });
    }
    count = turns.length;
    for (const card of document.querySelectorAll(".card[open]:not([data-revealed])")) {
      card.dataset.revealed = "";
      reveal(card);
    }
    document.querySelector("#settings .toggle-button")?.setAttribute("aria-label", "Close the settings");
  }).observe(document, { childList: true, subtree: true });

  window.ragSettings = () => {
    const toggle = document.querySelector("#settings .toggle-button");
    toggle.click();
    requestAnimationFrame(() => toggle.focus());
  };

  window.ragShowPaper = () => {
    const title = document.getElementById("paper");
    const chosen = title?.closest("[data-shown]").dataset.shown;
    for (const row of document.querySelectorAll("#list [data-paper]"))
      row.ariaCurrent = row.dataset.paper === chosen ? "true" : null;
    title?.scrollIntoView({ block: "nearest", behavior: behaviour() });
    title?.focus({ preventScroll: true });
  };

  window.ragDownload = (name, text) => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
})();
