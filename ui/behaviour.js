// Citations select their card, copy buttons copy, and a paper that was chosen comes into view.
(() => {
  const behaviour = () => (matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth");

  const select = (card) => {
    for (const other of document.querySelectorAll(".card.selected")) other.classList.remove("selected");
    const fold = card.closest(".also");
    if (fold) fold.open = true;
    card.open = true;
    card.classList.add("selected");
    card.scrollIntoView({ block: "nearest", behavior: behaviour() });
    card.querySelector("summary").focus({ preventScroll: true });
  };

  // The abstract scrolls to its evidence, inside its own box.
  const reveal = (card) => {
    const box = card.querySelector(".abstract");
    const mark = box?.querySelector("mark");
    if (mark) box.scrollTop = mark.offsetTop - (box.clientHeight - mark.offsetHeight) / 2;
  };

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
      if (card) select(card);
    } else if (button) copy(button);
  });

  document.addEventListener("toggle", (event) => {
    if (event.target.matches?.(".card[open]")) reveal(event.target);
  }, true);

  // Escape hides the reason at a sentence; "/" goes to the question.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select");
    if (event.key === "Escape") document.activeElement?.closest(".flag")?.blur();
    else if (event.key === "/" && !typing) {
      event.preventDefault();
      document.querySelector("#question textarea")?.focus();
    }
  });

  // A question that has just been asked comes into view; the page then keeps still while the answer grows.
  new MutationObserver(() => {
    const live = document.querySelector("#live .turn");
    if (live && !window.ragSeen) live.scrollIntoView({ block: "start", behavior: behaviour() });
    window.ragSeen = Boolean(live);
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
    title?.scrollIntoView({ block: "nearest", behavior: behaviour() });
    title?.focus({ preventScroll: true });
  };

  window.ragDownload = (name, text) => {
    const url = URL.createObjectURL(new Blob([text], { type: "text/markdown" }));
    Object.assign(document.createElement("a"), { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  };
})();
