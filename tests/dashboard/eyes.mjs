// What people see, or a screen reader says: names, widths and contrast of the page.

/** Controls, tables and pictures without a name for screen readers. */
export const nameless = (page) =>
  page.evaluate(() =>
    [...document.querySelectorAll("button, input, table, dialog, section, svg[role=img]")]
      .filter((one) => {
        const own = one.ariaLabel || one.textContent.trim() || one.getAttribute("aria-labelledby");
        return !own && !one.labels?.[0]?.textContent.trim();
      })
      .map((one) => one.outerHTML.slice(0, 100)),
  );

/** Elements that reach beyond the right edge, and the page itself where it scrolls sideways. */
export const tooWide = (page) =>
  page.evaluate(() => {
    const wide = [...document.querySelectorAll("body *")].filter(
      (one) =>
        !one.closest(".unseen, .skip, dialog, svg, [hidden]") && one.getBoundingClientRect().right > innerWidth + 0.5,
    );
    const names = wide.map((one) => one.outerHTML.slice(0, 100));
    return document.documentElement.scrollWidth > innerWidth ? [...names, "the page"] : names;
  });

/** The least contrast of text on its card in a theme (WCAG 2.2, 1.4.3). */
export async function contrast(page, theme) {
  const chosen = () => page.evaluate(() => document.documentElement.dataset.theme);
  while ((await chosen()) !== theme) await page.click("#theme");
  return page.evaluate(() => {
    const light = (colour) => {
      const parts = colour.match(/[\d.]+/g).map((part) => part / 255);
      const [red, green, blue] = parts.map((part) =>
        part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4,
      );
      return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
    };
    const texts = ".card .soft, .card .kind, .card .number, .verdict *, .card .state span";
    const ratios = [...document.querySelectorAll(texts)].map((one) => {
      const card = one.closest(".card, .verdict, .tile");
      const [a, b] = [getComputedStyle(one).color, getComputedStyle(card).backgroundColor].map(light);
      return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    });
    return Math.min(...ratios);
  });
}
