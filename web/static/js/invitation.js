// @ts-check
// The invitation rides in the link's fragment, which browsers do not send: hand it to the form.

const form = document.querySelector("form[data-invitation]");
const field = form?.querySelector('input[name="invitation"]');
if (field instanceof HTMLInputElement && location.hash.length > 1) {
  field.value = location.hash.slice(1);
}
