//! Listing a bucket.
//!
//! What a listing says decides what exists, so it is not believed blindly: names
//! that are not in ascending order would make the next page skip some, and a name
//! outside the prefix or without its size or time is damage. Names come
//! percent-encoded, because others may have put objects there whose names XML
//! cannot hold.
//!
//! The time of a page is the `Date` of its reply. It only bounds what may be missing,
//! so a listing without one is still a listing.

use aws_sdk_s3::types::{EncodingType, Object};

use super::client::{Date, unix_time};
use super::failure::Failure;
use super::{Answer, S3Store};
use crate::base::Kind;
use crate::base::pause::monotonic;
use crate::store::{Listed, Page, percent};

impl S3Store {
    pub(super) async fn page(&self, prefix: &str, after: Option<&str>) -> Answer<Page> {
        let deadline = monotonic() + self.allowance(0);
        let mut after = after.filter(|after| *after >= prefix).map(|after| self.full(after));
        let mut at = None;
        loop {
            let date = Date::default();
            let request = self
                .client
                .list_objects_v2()
                .bucket(&self.options.bucket)
                .prefix(self.full(prefix))
                .set_start_after(after.clone())
                .encoding_type(EncodingType::Url)
                .customize()
                .interceptor(date.clone());
            let answer = self.within(deadline, request.send()).await?;
            let answer = answer.map_err(|e| Failure::from(&e))?;
            // The first of several: what came to its part since is not in this page.
            let at = *at.get_or_insert_with(|| date.read().ok());

            let encoded = answer.encoding_type == Some(EncodingType::Url);
            let more = answer.is_truncated == Some(true);
            let mut page = Page { objects: Vec::new(), more, at };
            for object in answer.contents() {
                let name = name_of(object, encoded)?;
                if after.as_deref().is_some_and(|after| name.as_str() <= after) {
                    let text = format!("the listing is not in the order of names at {name}");
                    return Err(Failure::new(Kind::Damaged, text));
                }
                // What a console shows as a folder is an empty object that ends in a slash.
                if !name.ends_with('/') {
                    page.objects.push(self.listed(&name, object)?);
                }
                after = Some(name);
            }
            // A page of nothing but folders: the caller could not tell where to go on.
            if !more || !page.objects.is_empty() {
                return Ok(page);
            }
            if answer.contents().is_empty() {
                return Err(Failure::new(Kind::Damaged, "an empty page claims that more follows"));
            }
        }
    }

    fn listed(&self, name: &str, object: &Object) -> Answer<Listed> {
        let damaged = |text: String| Failure::new(Kind::Damaged, text);
        let key = match self.options.prefix.as_str() {
            "" => Some(name),
            prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')),
        };
        let key = key.ok_or_else(|| damaged(format!("{name} was not asked for")))?;
        let size = object.size.and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or_else(|| damaged(format!("{name} is listed without its size")))?;
        let receipt = object.last_modified.as_ref().map(unix_time);
        let receipt =
            receipt.ok_or_else(|| damaged(format!("{name} is listed without its time")))?;
        Ok(Listed { key: key.to_owned(), size, receipt })
    }
}

fn name_of(object: &Object, encoded: bool) -> Answer<String> {
    let name = object.key().unwrap_or_default();
    if !encoded {
        return Ok(name.to_owned());
    }
    let bytes = percent::decode(&name.replace('+', " "));
    bytes
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| Failure::new(Kind::Damaged, format!("{name} is listed but is no name")))
}
